//! Who takes part, and their certificates: the same development PKI for every subject.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::identity::credentials::Credentials;
use legal_aid_gateway::identity::development::{AUTHORITY_CERTIFICATE_FILE, DevelopmentAuthority};
use legal_aid_gateway::identity::dialler::{Dialler, Endpoint};

/// The name in every server certificate here.
pub(crate) const SERVER_NAME: &str = "localhost";

const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// An agency of the benchmark. The bare proxy shows the gateway's certificate, the bare echo the registry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Party {
    Centre,
    Gateway,
    Registry,
    /// A court that takes what is pushed.
    Court,
    /// A court at whose address nobody listens.
    DeadCourt,
    /// A court that takes connections and calls, and never answers.
    StallingCourt,
    SecondCentre,
    ThirdCentre,
    FourthCentre,
}

impl Party {
    pub(crate) const ALL: [Self; 9] = [
        Self::Centre,
        Self::Gateway,
        Self::Registry,
        Self::Court,
        Self::DeadCourt,
        Self::StallingCourt,
        Self::SecondCentre,
        Self::ThirdCentre,
        Self::FourthCentre,
    ];

    /// Agencies that call.
    pub(crate) const CENTRES: [Self; 4] =
        [Self::Centre, Self::SecondCentre, Self::ThirdCentre, Self::FourthCentre];

    /// Agencies that are pushed to.
    pub(crate) const COURTS: [Self; 3] = [Self::Court, Self::DeadCourt, Self::StallingCourt];

    /// The credit code, as text.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Centre => "11320000MB151840XJ",
            Self::Gateway => "91110000600037341L",
            Self::Registry => "91350100M000100Y43",
            Self::Court => "1133100200264500AK",
            Self::DeadCourt => "1133100200264501BP",
            Self::StallingCourt => "1133100200264502CU",
            Self::SecondCentre => "1133100200264503D0",
            Self::ThirdCentre => "1133100200264504E4",
            Self::FourthCentre => "1133100200264505F8",
        }
    }

    /// Its name in file names and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Centre => "centre",
            Self::Gateway => "gateway",
            Self::Registry => "registry",
            Self::Court => "court",
            Self::DeadCourt => "dead-court",
            Self::StallingCourt => "stalling-court",
            Self::SecondCentre => "second-centre",
            Self::ThirdCentre => "third-centre",
            Self::FourthCentre => "fourth-centre",
        }
    }

    pub(crate) fn agency(self) -> Result<CreditCode> {
        CreditCode::parse(self.code()).with_context(|| format!("credit code of the {}", self.name()))
    }
}

/// A folder with everybody's certificate and key.
#[derive(Clone, Debug)]
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// Issues them into a folder.
    pub(crate) fn issue(folder: &Path) -> Result<Self> {
        let now = Clock::system().now();
        let authority = DevelopmentAuthority::create("benchmark", now)?;
        authority.save(folder)?;
        for party in Party::ALL {
            authority
                .issue(party.agency()?, party.name(), &[], now, LIFETIME)?
                .write_to(folder, party.name())?;
        }
        Ok(Self(folder.to_owned()))
    }

    /// Those that another process issued.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join(AUTHORITY_CERTIFICATE_FILE)
    }

    pub(crate) fn certificate(&self, party: Party) -> PathBuf {
        self.0.join(format!("{}.crt.pem", party.name()))
    }

    pub(crate) fn key(&self, party: Party) -> PathBuf {
        self.0.join(format!("{}.key.pem", party.name()))
    }

    /// Goes out with a party's certificate, as the gateway goes out with its own.
    pub(crate) fn dialler(&self, party: Party) -> Result<Dialler> {
        let credentials = Credentials::load(&self.certificate(party), &self.key(party), &self.authority())?;
        Ok(Dialler::new(&credentials, Clock::system()))
    }
}

/// Where `party` listens on loopback.
pub(crate) fn endpoint(address: std::net::SocketAddr, party: Party) -> Result<Endpoint> {
    Ok(Endpoint {
        address: address.to_string(),
        server_name: SERVER_NAME.to_owned(),
        agency: party.agency()?,
    })
}

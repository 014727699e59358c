//! A gateway and the agencies around it, on loopback, from a folder that `init` makes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

use super::clerk::{self, Working};
use super::court::{self, Script};
use super::{Serving, SimulatorError, registry};
use crate::client::{AgencyClient, ClientError};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::domain::agency::CreditCodeError;
use crate::gateway::{Gateway, StartError};
use crate::setup::{Setup, SetupError, codes};

/// A running district.
pub struct District {
    folder: PathBuf,
    clock: Clock,
    /// The gateway.
    pub gateway: Gateway,
    registry: Option<Serving>,
    poverty_registry: Option<Serving>,
    court: Option<Serving>,
    /// Clerks of other agencies, by the agency's name in the folder.
    clerks: BTreeMap<String, Working>,
}

/// Why a district does not start.
#[derive(Debug, Error)]
pub enum DistrictError {
    /// Its folder.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Its gateway's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its gateway.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An agency.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// A client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The organ's code.
    #[error(transparent)]
    Code(#[from] CreditCodeError),
    /// No free port.
    #[error("no free port on loopback: {0}")]
    Port(#[from] std::io::Error),
}

impl District {
    /// Makes the folder and starts everything in it.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(folder: &Path, script: Script, clock: Clock) -> Result<Self, DistrictError> {
        Self::prepare(folder, script, &clock)?;
        Self::open(folder, clock).await
    }

    /// Starts everything in a folder that is there already.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open(folder: &Path, clock: Clock) -> Result<Self, DistrictError> {
        Self::open_with(folder, clock, []).await
    }

    /// Starts everything in a folder that is there already; variables replace keys of the gateway's configuration.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open_with(
        folder: &Path,
        clock: Clock,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, DistrictError> {
        let registry = registry::serve_file(&folder.join("simulate-registry.toml"), clock.clone()).await?;
        let poverty_registry = folder.join("simulate-poverty-registry.toml");
        let poverty_registry = registry::serve_file(&poverty_registry, clock.clone()).await?;
        let court = court::serve_file(&folder.join("simulate-court.toml"), clock.clone()).await?;
        let config = Config::load(&folder.join("gateway.toml"), environment)?;
        let gateway = Gateway::start(config, clock.clone()).await?;
        Ok(Self {
            folder: folder.to_owned(),
            clock,
            gateway,
            registry: Some(registry),
            poverty_registry: Some(poverty_registry),
            court: Some(court),
            clerks: BTreeMap::new(),
        })
    }

    /// Makes the folder only, with ports that are free now.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn prepare(folder: &Path, script: Script, clock: &Clock) -> Result<(), DistrictError> {
        let (gateway, registry) = (free_address()?, free_address()?);
        let (court, poverty_registry) = (free_address()?, free_address()?);
        let organ = crate::domain::agency::CreditCode::parse(codes::GATEWAY)?;
        let setup = Setup { gateway, registry, poverty_registry, court, development: true, organ, script };
        Ok(setup.create(folder, clock)?)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client of an agency by its name in the folder, such as `centre`, `court` or `neighbour`.
    ///
    /// # Errors
    /// When the folder has no such agency.
    pub fn client(&self, name: &str) -> Result<AgencyClient, DistrictError> {
        Ok(AgencyClient::load(&self.folder.join(format!("{name}.toml")), self.clock.clone())?)
    }

    /// Stops the registry: from then on nobody answers at its address.
    pub async fn stop_registry(&mut self) {
        if let Some(registry) = self.registry.take() {
            registry.stop().await;
        }
    }

    /// Starts the registry again.
    ///
    /// # Errors
    /// When its address is taken.
    pub async fn start_registry(&mut self) -> Result<(), DistrictError> {
        let config = self.folder.join("simulate-registry.toml");
        self.registry = Some(registry::serve_file(&config, self.clock.clone()).await?);
        Ok(())
    }

    /// Has the clerk of an agency, such as `procuratorate`, work by its `simulate-….toml`.
    ///
    /// # Errors
    /// When its configuration cannot be used.
    pub async fn employ(&mut self, name: &str) -> Result<(), DistrictError> {
        let config = clerk::load(&self.folder.join(format!("simulate-{name}.toml")))?;
        let working = clerk::work(config, self.clock.clone()).await?;
        if let Some(earlier) = self.clerks.insert(name.to_owned(), working) {
            earlier.stop().await;
        }
        Ok(())
    }

    /// Sends a clerk home.
    pub async fn send_home(&mut self, name: &str) {
        if let Some(clerk) = self.clerks.remove(name) {
            clerk.stop().await;
        }
    }

    /// Stops the court.
    pub async fn stop_court(&mut self) {
        if let Some(court) = self.court.take() {
            court.stop().await;
        }
    }

    /// Stops everything in order.
    pub async fn stop(mut self) {
        for clerk in std::mem::take(&mut self.clerks).into_values() {
            clerk.stop().await;
        }
        self.gateway.stop().await;
        if let Some(registry) = self.registry.take() {
            registry.stop().await;
        }
        if let Some(registry) = self.poverty_registry.take() {
            registry.stop().await;
        }
        if let Some(court) = self.court.take() {
            court.stop().await;
        }
    }
}

/// A loopback address that nothing listens on, never the same twice. Its port lies below those that systems give to
/// outgoing connections, so that none of these takes it before it is used.
///
/// # Errors
/// When no port is free.
pub fn free_address() -> std::io::Result<SocketAddr> {
    const FIRST: u32 = 10_240;
    const PORTS: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..PORTS {
        // Two processes begin at different places.
        let place = std::process::id().wrapping_mul(101).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + place % PORTS).unwrap_or(u16::MAX);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

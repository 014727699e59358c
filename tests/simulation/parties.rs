//! The agencies around the gateway, and what each of them has written down for itself.

use std::collections::BTreeMap;

use legal_aid_gateway::access::{
    Agency, AgencyEndpoint, AgencyStatus, Agreement, Directory, DirectoryFile, Method,
};
use legal_aid_gateway::domain::agency::{AgencyKind, CreditCode, PurposeCode};
use legal_aid_gateway::domain::region::RegionCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use prost::Message as _;

use super::flaw::Flaw;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Centre,
    Court,
    /// Says of what it has already that it exists; the others answer alike.
    SecondCourt,
}

impl Party {
    pub(crate) const ALL: [Self; 3] = [Self::Centre, Self::Court, Self::SecondCourt];

    pub(crate) fn code(self) -> CreditCode {
        let code = match self {
            Self::Centre => codes::CENTRE,
            Self::Court => codes::COURT,
            Self::SecondCourt => codes::STRANGER,
        };
        CreditCode::parse(code).unwrap()
    }

    pub(crate) fn of(code: &CreditCode) -> Self {
        Self::ALL.into_iter().find(|party| party.code() == *code).unwrap()
    }
}

/// The directory in which these agencies take push.
pub(crate) fn directory(push: &[Party]) -> Directory {
    let code = |code| CreditCode::parse(code).unwrap();
    let agency = |code: CreditCode, kind, endpoint: bool| Agency {
        code,
        name: "模拟机构".to_owned(),
        kind,
        region: RegionCode::parse("331004").unwrap(),
        status: AgencyStatus::Active,
        certificates: Vec::new(),
        endpoint: endpoint.then(|| AgencyEndpoint {
            address: "inbox.example:443".to_owned(),
            server_name: "inbox.example".to_owned(),
        }),
    };
    let days = (jiff::civil::date(2026, 1, 1), jiff::civil::date(2099, 12, 31));
    let agreement =
        |id: &str, caller: CreditCode, methods: &[Method], counterparts: &[Party], purpose: &str| Agreement {
            methods: methods.to_vec(),
            counterparts: counterparts.iter().map(|party| party.code().into()).collect(),
            purposes: vec![PurposeCode::parse(purpose).unwrap()],
            ..Agreement::new(id, 1, caller, days)
        };
    let working = [Method::RespondToExchange, Method::PullDeliveries, Method::AcknowledgeDelivery];
    let submitting = [&working[..], &[Method::SubmitExchange, Method::ListExchanges]].concat();
    let operating = [Method::RedeliverExchange, Method::RetryDelivery];
    let courts = [Party::Court, Party::SecondCourt];
    let mut agencies: Vec<_> = Party::ALL
        .into_iter()
        .map(|party| {
            let kind = if party == Party::Centre { AgencyKind::LegalAidCentre } else { AgencyKind::Court };
            agency(party.code(), kind, push.contains(&party))
        })
        .collect();
    agencies.push(agency(code(codes::OPERATOR), AgencyKind::Operator, false));
    let mut agreements = vec![
        agreement("CENTRE", Party::Centre.code(), &submitting, &courts, purposes::FEE_WAIVER),
        agreement("OPERATOR", code(codes::OPERATOR), &operating, &[], purposes::GATEWAY_OPERATION),
    ];
    for court in courts {
        let id = format!("{court:?}");
        agreements.push(agreement(&id, court.code(), &working, &[Party::Centre], purposes::FEE_WAIVER));
    }
    Directory::build(DirectoryFile { agencies, agreements, ..Default::default() }).unwrap()
}

/// What an agency has taken over.
#[derive(Clone)]
pub(crate) struct Taken {
    pub(crate) exchange_id: String,
    pub(crate) sequence: u32,
    pub(crate) digest: Vec<u8>,
}

/// What all agencies have taken over, each in a book of its own, by delivery.
#[derive(Default)]
pub(crate) struct Books {
    books: BTreeMap<Party, BTreeMap<String, Taken>>,
    /// What was entered since the checker last looked, in order.
    new: Vec<(Party, String)>,
    flaw: Flaw,
}

/// How a book answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    New,
    Already,
}

impl Books {
    pub(crate) fn with(flaw: Flaw) -> Self {
        Self { flaw, ..Self::default() }
    }

    /// Enters a delivery, once, however often it comes.
    pub(crate) fn enter(&mut self, party: Party, delivery: &proto::Delivery) -> Result<Entered, String> {
        let digest = sha256(&delivery.message);
        if digest != delivery.message_sha256 {
            return Err(format!("{party:?} was given a message that is not of its digest"));
        }
        let message = proto::ExchangeMessage::decode(delivery.message.as_slice())
            .map_err(|error| format!("{party:?} was given what is no message: {error}"))?;
        let book = self.books.entry(party).or_default();
        let id = &delivery.delivery_id;
        if let Some(known) = book.get(id) {
            if known.digest != digest {
                return Err(format!("{party:?} was given another message as delivery {id}"));
            }
            if self.flaw != Flaw::RecipientForgets {
                return Ok(Entered::Already);
            }
        }
        let same =
            |taken: &&Taken| (&taken.exchange_id, taken.sequence) == (&message.exchange_id, message.sequence);
        if book.values().any(|taken| same(&taken)) {
            let sequence = message.sequence;
            return Err(format!("{party:?} was given message {sequence} of one exchange twice with effect"));
        }
        let exchange_id = message.exchange_id;
        book.insert(id.clone(), Taken { exchange_id, sequence: message.sequence, digest });
        self.new.push((party, id.clone()));
        Ok(Entered::New)
    }

    pub(crate) fn of(&self, party: Party) -> impl Iterator<Item = (&String, &Taken)> {
        self.books.get(&party).into_iter().flatten()
    }

    pub(crate) fn taken(&self, party: Party, delivery: &str) -> Option<&Taken> {
        self.books.get(&party)?.get(delivery)
    }

    /// What was entered since the last time.
    pub(crate) fn news(&mut self) -> Vec<(Party, String)> {
        std::mem::take(&mut self.new)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

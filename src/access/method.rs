//! The methods of the contract, as agreements name them.

use serde::{Deserialize, Serialize};

/// Package of the contract.
pub const PACKAGE: &str = "legalaid.exchange.v1";

/// How many messages a method takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One and one.
    Unary,
    /// A stream of them, and one.
    ClientStream,
    /// One, and a stream of them.
    ServerStream,
    /// A stream both ways.
    BothWays,
}

impl Shape {
    /// Whether its request is one message.
    pub const fn takes_one_message(self) -> bool {
        matches!(self, Self::Unary | Self::ServerStream)
    }

    /// Whether its answer is one message.
    pub const fn gives_one_message(self) -> bool {
        matches!(self, Self::Unary | Self::ClientStream)
    }
}

/// The shape that a method declares; none means unary.
macro_rules! shape {
    () => {
        Shape::Unary
    };
    ($shape:ident) => {
        Shape::$shape
    };
}

/// Declares the methods that need an agreement: `Method,` for a unary one, `Method: ServerStream,` for another.
macro_rules! methods {
    ($( $service:ident { $( $(#[$about:meta])* $method:ident $(: $shape:ident)?, )+ } )+) => {
        /// A method of the contract that an agreement can allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Method { $( $( $(#[$about])* $method, )+ )+ }

        impl Method {
            /// Every method, in the order of the contract.
            pub const ALL: &'static [Self] = &[$( $( Self::$method, )+ )+];

            /// The service's full name.
            pub const fn service(self) -> &'static str {
                match self { $( $( Self::$method => concat!("legalaid.exchange.v1.", stringify!($service)), )+ )+ }
            }

            /// How many messages it takes and gives.
            pub const fn shape(self) -> Shape {
                match self { $( $( Self::$method => shape!($($shape)?), )+ )+ }
            }

            /// The method's name.
            pub const fn name(self) -> &'static str {
                match self { $( $( Self::$method => stringify!($method), )+ )+ }
            }
        }
    };
}

methods! {
    VerificationService {
        /// Asks the low-income register.
        VerifyLowIncome,
        /// Asks the register of poverty households.
        VerifyPovertyHousehold,
        /// Asks many questions on one stream.
        BatchVerify: BothWays,
        /// Reads a verification that is completed later.
        GetVerification,
    }
    EligibilityService {
        /// Assesses an application.
        AssessEligibility,
    }
    ExchangeService {
        /// Opens an exchange.
        SubmitExchange,
        /// Answers in an exchange.
        RespondToExchange,
        /// Reads an exchange.
        GetExchange,
        /// Lists exchanges.
        ListExchanges,
        /// Takes waiting deliveries.
        PullDeliveries,
        /// Says that a delivery was taken over.
        AcknowledgeDelivery,
        /// Follows exchanges.
        WatchExchanges: ServerStream,
        /// Has what was given up in an exchange delivered again.
        RedeliverExchange,
        /// Lists deliveries of all agencies.
        ListDeliveries,
        /// Reads a delivery of any agency.
        GetDelivery,
        /// Has a delivery that waits tried now.
        RetryDelivery,
    }
    AgreementService {
        /// Puts in an agreement, or a version of one.
        PutAgreement,
        /// Approves what another operator put in.
        ApproveAgreement,
        /// Ends an agreement.
        EndAgreement,
        /// Reads the versions of an agreement.
        GetAgreement,
        /// Lists agreements.
        ListAgreements,
        /// Says what an agreement makes of a call.
        ExplainAgreement,
    }
    AttachmentService {
        /// Takes in an attachment.
        UploadAttachment: ClientStream,
        /// Says how much of an upload is durable.
        GetUpload,
        /// Gives an attachment out.
        DownloadAttachment: ServerStream,
    }
    AuditService {
        /// Lists audit entries.
        ListEntries,
        /// Reads an audit entry.
        GetEntry,
        /// Gets the signed checkpoint.
        GetCheckpoint,
        /// Proves an entry.
        GetInclusionProof,
        /// Gives the evidence of an exchange.
        ExportEvidence: ServerStream,
        /// Proves that an earlier tree began a later one.
        GetConsistencyProof,
        /// Reads entries in a row.
        GetEntries,
        /// Reads a tile, here or from the published tiles.
        GetTile,
        /// Gets the proof of an entry to keep.
        GetReceipt,
        /// Opens what an entry only commits to.
        OpenEntry,
        /// Erases a person, or a period.
        EraseRecords,
        /// Removes what is past its retention.
        PruneLog,
        /// Reads how far a removal is.
        GetRemoval,
        /// Looks for what is odd in the log.
        ListFindings: ServerStream,
        /// Marks a finding normal or an incident.
        MarkFinding,
    }
}

impl Method {
    /// Whether it is for whoever runs the gateway, and no party.
    pub const fn is_the_operators(self) -> bool {
        matches!(
            self,
            Self::RedeliverExchange
                | Self::ListDeliveries
                | Self::GetDelivery
                | Self::RetryDelivery
                | Self::EraseRecords
                | Self::PruneLog
                | Self::GetRemoval
                | Self::PutAgreement
                | Self::ApproveAgreement
                | Self::EndAgreement
                | Self::GetAgreement
                | Self::ListAgreements
                | Self::ExplainAgreement
        )
    }

    /// The method at an HTTP/2 path such as `/legalaid.exchange.v1.AuditService/GetEntry`.
    pub fn at_path(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        Self::ALL.iter().copied().find(|method| method.name() == name && method.service() == service)
    }
}

//! One matter between two agencies: its ids, its kinds and its states.

use std::fmt;

use uuid::Uuid;

use super::vocabulary::vocabulary;

/// Declares an id that is a UUID.
macro_rules! uuid_id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with these bits.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Reads the usual text form.
            pub fn parse(text: &str) -> Option<Self> {
                // Only the hyphenated form: one id has one spelling.
                (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten().filter(|id| !id.is_nil()).map(Self)
            }

            /// Reads the 16 bytes that are stored.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes to store.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The bits.
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// Names an exchange. Version 7, so that the order of ids is the order of time.
    ExchangeId
);
uuid_id!(
    /// Names a delivery through all its attempts.
    DeliveryId
);
uuid_id!(
    /// Names a call; chosen by the caller.
    RequestId
);

vocabulary! {
    /// What a message is.
    pub enum Kind {
        /// A question to the low-income register.
        LowIncomeQuery => "LOW_INCOME_QUERY",
        /// A fee-waiver request to a court.
        FeeWaiver => "FEE_WAIVER",
    }
}

vocabulary! {
    /// Where an exchange stands.
    pub enum ExchangeState {
        /// Stored, not yet delivered.
        Submitted => "SUBMITTED",
        /// Taken over by the recipient's system.
        Delivered => "DELIVERED",
        /// Confirmed by the recipient.
        Received => "RECEIVED",
        /// The recipient asked for papers.
        SupplementRequested => "SUPPLEMENT_REQUESTED",
        /// The sender handed papers in.
        Supplemented => "SUPPLEMENTED",
        /// Decided.
        Decided => "DECIDED",
        /// Closed.
        Closed => "CLOSED",
        /// Withdrawn by the sender.
        Withdrawn => "WITHDRAWN",
        /// Could not be delivered in time.
        Undeliverable => "UNDELIVERABLE",
        /// No supplement came in time (法律援助法 art 43).
        DeemedWithdrawn => "DEEMED_WITHDRAWN",
    }
}

vocabulary! {
    /// What a party may add to an exchange.
    pub enum ResponseKind {
        /// The recipient has the message.
        Receipt => "RECEIPT",
        /// The recipient asks for papers.
        SupplementRequest => "SUPPLEMENT_REQUEST",
        /// The sender hands papers in.
        Supplement => "SUPPLEMENT",
        /// The sender withdraws.
        Withdrawal => "WITHDRAWAL",
        /// The recipient decides.
        Decision => "DECISION",
        /// Either party closes.
        Closure => "CLOSURE",
    }
}

vocabulary! {
    /// A party's part in an exchange.
    pub enum Party {
        /// Opened it.
        Sender => "SENDER",
        /// It goes to.
        Recipient => "RECIPIENT",
    }
}

vocabulary! {
    /// What changed in an exchange.
    pub enum Change {
        /// It was opened.
        Opened => "OPENED",
        /// A message was added.
        MessageAdded => "MESSAGE_ADDED",
        /// Its state changed without a message.
        StateChanged => "STATE_CHANGED",
        /// A message was delivered.
        Delivered => "DELIVERED",
        /// A message could not be delivered in time.
        Undeliverable => "UNDELIVERABLE",
    }
}

impl Change {
    /// The change with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|change| change.as_str() == name)
    }
}

impl Kind {
    /// The kind with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl ExchangeState {
    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }
}

/// One row of the state machine: in `from`, `by` may answer with `response`, which leads to `to`.
struct Transition {
    from: ExchangeState,
    response: ResponseKind,
    by: Party,
    to: ExchangeState,
}

const fn when(from: ExchangeState, by: Party, response: ResponseKind, to: ExchangeState) -> Transition {
    Transition { from, response, by, to }
}

/// The state machine of every kind. Delivery itself (SUBMITTED to DELIVERED or UNDELIVERABLE) is the courier's.
const TRANSITIONS: &[Transition] = {
    use ExchangeState as S;
    use Party::{Recipient, Sender};
    use ResponseKind as R;
    &[
        // A receipt can overtake the courier's own note that the delivery arrived.
        when(S::Submitted, Recipient, R::Receipt, S::Received),
        when(S::Delivered, Recipient, R::Receipt, S::Received),
        when(S::Received, Recipient, R::SupplementRequest, S::SupplementRequested),
        when(S::SupplementRequested, Sender, R::Supplement, S::Supplemented),
        when(S::Supplemented, Recipient, R::SupplementRequest, S::SupplementRequested),
        when(S::Received, Recipient, R::Decision, S::Decided),
        when(S::Supplemented, Recipient, R::Decision, S::Decided),
        when(S::Submitted, Sender, R::Withdrawal, S::Withdrawn),
        when(S::Delivered, Sender, R::Withdrawal, S::Withdrawn),
        when(S::Received, Sender, R::Withdrawal, S::Withdrawn),
        when(S::SupplementRequested, Sender, R::Withdrawal, S::Withdrawn),
        when(S::Supplemented, Sender, R::Withdrawal, S::Withdrawn),
        when(S::Decided, Sender, R::Closure, S::Closed),
        when(S::Decided, Recipient, R::Closure, S::Closed),
    ]
};

/// A response that the state of the exchange does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in state {state} the {by} may not answer with {response}; allowed: {}", list(.allowed))]
pub struct IllegalTransition {
    /// The state.
    pub state: ExchangeState,
    /// Who wanted to answer.
    pub by: Party,
    /// With what.
    pub response: ResponseKind,
    /// What this party may answer with.
    pub allowed: Vec<ResponseKind>,
}

/// The state that `response` by `by` leads to.
///
/// # Errors
/// When the state does not allow it; the error names what is allowed.
pub fn next_state(
    state: ExchangeState,
    by: Party,
    response: ResponseKind,
) -> Result<ExchangeState, IllegalTransition> {
    let rows = || TRANSITIONS.iter().filter(|row| row.from == state && row.by == by);
    match rows().find(|row| row.response == response) {
        Some(row) => Ok(row.to),
        None => {
            let allowed = rows().map(|row| row.response).collect();
            Err(IllegalTransition { state, by, response, allowed })
        }
    }
}

fn list(kinds: &[ResponseKind]) -> String {
    if kinds.is_empty() {
        return "nothing".to_owned();
    }
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_waiver_runs_from_receipt_over_supplement_to_close() {
        use ExchangeState as S;
        use Party::{Recipient, Sender};
        let mut state = S::Submitted;
        for (by, response, expected) in [
            (Recipient, ResponseKind::Receipt, S::Received),
            (Recipient, ResponseKind::SupplementRequest, S::SupplementRequested),
            (Sender, ResponseKind::Supplement, S::Supplemented),
            (Recipient, ResponseKind::Decision, S::Decided),
            (Sender, ResponseKind::Closure, S::Closed),
        ] {
            state = next_state(state, by, response).unwrap();
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn an_illegal_answer_names_what_is_allowed() {
        let error = next_state(ExchangeState::Received, Party::Recipient, ResponseKind::Receipt).unwrap_err();
        assert_eq!(error.allowed, [ResponseKind::SupplementRequest, ResponseKind::Decision]);
        assert!(error.to_string().contains("allowed: SUPPLEMENT_REQUEST, DECISION"), "{error}");
    }

    #[test]
    fn nothing_follows_a_final_state() {
        use ExchangeState as S;
        for state in [S::Closed, S::Withdrawn, S::DeemedWithdrawn, S::Undeliverable] {
            for by in Party::ALL {
                for response in ResponseKind::ALL {
                    let allowed = next_state(state, *by, *response).is_ok();
                    assert!(!allowed, "{state} {by} {response}");
                }
            }
        }
    }

    #[test]
    fn the_sender_never_decides_and_the_recipient_never_withdraws() {
        for state in ExchangeState::ALL {
            assert!(next_state(*state, Party::Sender, ResponseKind::Decision).is_err());
            assert!(next_state(*state, Party::Recipient, ResponseKind::Withdrawal).is_err());
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = "0190a6c4-7c1e-7b3a-8f00-0123456789ab";
        assert_eq!(RequestId::parse(id).unwrap().to_string(), id);
        assert!(RequestId::parse("0190a6c47c1e7b3a8f000123456789ab").is_none());
        assert!(RequestId::parse("00000000-0000-0000-0000-000000000000").is_none());
        assert!(RequestId::parse("").is_none());
    }
}

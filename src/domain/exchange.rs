//! One matter between two agencies: its ids, its kinds and its states.

use std::fmt;

use uuid::Uuid;

use super::agency::AgencyKind;
use super::law::{Article, Law};
use super::violation::BrokenRule;
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
    /// Names a verification that is completed later.
    VerificationId
);
uuid_id!(
    /// Names a call; chosen by the caller.
    RequestId
);

impl VerificationId {
    /// The thread that carries its answer: one message, in no exchange.
    pub const fn thread(self) -> ExchangeId {
        ExchangeId(self.0)
    }
}

vocabulary! {
    /// What a message is.
    pub enum Kind {
        /// A question to the low-income register.
        LowIncomeQuery => "LOW_INCOME_QUERY",
        /// A fee-waiver request to a court.
        FeeWaiver => "FEE_WAIVER",
        /// A question to the poverty register.
        PovertyHouseholdQuery => "POVERTY_HOUSEHOLD_QUERY",
        /// A request to a court for judicial relief in money.
        JudicialRelief => "JUDICIAL_RELIEF",
        /// A petitioner handed on between centre and procuratorate.
        AppealReferral => "APPEAL_REFERRAL",
        /// A notice that counsel must be assigned.
        CounselNotice => "COUNSEL_NOTICE",
        /// A court's report that it assigned a lawyer itself.
        DirectAssignmentReport => "DIRECT_ASSIGNMENT_REPORT",
        /// A centre asks another for help.
        CooperationRequest => "COOPERATION_REQUEST",
    }
}

/// A way that a kind of message may go, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// What goes.
    pub kind: Kind,
    /// What the sender is.
    pub sender: AgencyKind,
    /// What the recipient is.
    pub recipient: AgencyKind,
    /// Where the law provides for it.
    pub article: Article,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.sender, self.recipient)
    }
}

/// The ways of every kind.
const ROUTES: &[Route] = {
    use AgencyKind as A;
    use Kind as K;
    const fn way(kind: K, sender: A, recipient: A, article: Article) -> Route {
        Route { kind, sender, recipient, article }
    }
    &[
        way(K::LowIncomeQuery, A::LegalAidCentre, A::CivilAffairsRegistry, Article::legal_aid_law("41")),
        way(K::PovertyHouseholdQuery, A::LegalAidCentre, A::PovertyRegistry, Article::legal_aid_law("41")),
        way(K::FeeWaiver, A::LegalAidCentre, A::Court, Article::court_fee_measures("48")),
        way(K::JudicialRelief, A::LegalAidCentre, A::Court, Article::of(Law::JudicialReliefOpinions, "1")),
        way(K::AppealReferral, A::LegalAidCentre, A::Procuratorate, Article::legal_aid_law("51")),
        way(K::AppealReferral, A::Procuratorate, A::LegalAidCentre, Article::legal_aid_law("33")),
        way(K::CounselNotice, A::Court, A::LegalAidCentre, Article::legal_aid_law("36")),
        way(K::CounselNotice, A::Procuratorate, A::LegalAidCentre, Article::legal_aid_law("36")),
        way(K::CounselNotice, A::PublicSecurityOrgan, A::LegalAidCentre, Article::legal_aid_law("36")),
        way(K::DirectAssignmentReport, A::Court, A::LegalAidCentre, Article::legal_aid_law("36")),
        way(K::CooperationRequest, A::LegalAidCentre, A::LegalAidCentre, Article::legal_aid_law("51")),
    ]
};

/// A message of a kind that does not go from such a sender to such a recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} does not go from {sender} to {recipient}; allowed: {}", ways(*kind))]
pub struct NoRoute {
    /// The kind.
    pub kind: Kind,
    /// What the sender is.
    pub sender: AgencyKind,
    /// What the recipient is.
    pub recipient: AgencyKind,
}

impl BrokenRule for NoRoute {
    fn rule(&self) -> &'static str {
        "KIND_GOES_ITS_WAY"
    }

    fn description_zh(&self) -> &'static str {
        "该类事项不在这两类机构之间办理"
    }

    /// The article that says where the kind goes: the one for this sender, where it sends the kind at all.
    fn article(&self) -> Option<Article> {
        let own = self.kind.routes().find(|route| route.sender == self.sender);
        own.or_else(|| self.kind.routes().next()).map(|route| route.article)
    }
}

fn ways(kind: Kind) -> String {
    kind.routes().map(Route::to_string).collect::<Vec<_>>().join(", ")
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
        /// The recipient tells of a step, such as having accepted the matter; the state stays.
        Progress => "PROGRESS",
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
        /// A clock of the law ran out.
        Overdue => "OVERDUE",
        /// A message was delivered.
        Delivered => "DELIVERED",
        /// A message could not be delivered in time.
        Undeliverable => "UNDELIVERABLE",
        /// An operator has a message delivered again that was given up.
        Redelivered => "REDELIVERED",
    }
}

vocabulary! {
    /// Where a delivery stands.
    pub enum DeliveryState {
        /// It waits for its next attempt, or to be pulled.
        Pending => "PENDING",
        /// It is on its way: an attempt is made, or it was pulled and not yet acknowledged.
        Leased => "LEASED",
        /// The recipient has it.
        Delivered => "DELIVERED",
        /// It was given up for its age.
        Dead => "DEAD",
    }
}

impl DeliveryState {
    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
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

    /// The ways that this kind may go. An answer goes the way back.
    pub fn routes(self) -> impl Iterator<Item = &'static Route> {
        ROUTES.iter().filter(move |route| route.kind == self)
    }

    /// The way of this kind from such a sender to such a recipient.
    ///
    /// # Errors
    /// When the kind does not go there; the error names the ways that it goes.
    pub fn route(self, sender: AgencyKind, recipient: AgencyKind) -> Result<&'static Route, NoRoute> {
        let found = self.routes().find(|route| route.sender == sender && route.recipient == recipient);
        found.ok_or(NoRoute { kind: self, sender, recipient })
    }
}

impl ExchangeState {
    /// The state in Chinese.
    pub const fn name_zh(self) -> &'static str {
        match self {
            Self::Submitted => "已提交",
            Self::Delivered => "已送达",
            Self::Received => "已签收",
            Self::SupplementRequested => "待补正",
            Self::Supplemented => "已补正",
            Self::Decided => "已决定",
            Self::Closed => "已办结",
            Self::Withdrawn => "已撤回",
            Self::Undeliverable => "无法送达",
            Self::DeemedWithdrawn => "视为撤回",
        }
    }

    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }

    /// Where an exchange may stand as well by the time that a response which was allowed in this state, and leads to `to`, is written:
    /// where the arrival of the opening message has moved it meanwhile, if that makes no difference to the response.
    pub fn or_arrived(self, response: ResponseKind, to: Self) -> Self {
        let (before, arrived) = Step::Arrival.moves();
        let leads_there = |row: &Transition| row.from == arrived && row.response == response && row.to == to;
        if self == before && TRANSITIONS.iter().any(leads_there) { arrived } else { self }
    }

    /// Whether nothing follows: no party, and not the gateway, can move the exchange on.
    pub fn is_final(self) -> bool {
        !TRANSITIONS.iter().any(|row| row.from == self)
            && !Step::ALL.iter().any(|step| step.moves().0 == self)
    }
}

impl ResponseKind {
    /// The answer in Chinese.
    pub const fn name_zh(self) -> &'static str {
        match self {
            Self::Receipt => "签收",
            Self::SupplementRequest => "通知补正",
            Self::Supplement => "补正",
            Self::Withdrawal => "撤回",
            Self::Progress => "告知进展",
            Self::Decision => "决定",
            Self::Closure => "办结",
        }
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

/// What parties do: the state machine of every kind.
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
        when(S::Received, Recipient, R::Progress, S::Received),
        when(S::Supplemented, Recipient, R::Progress, S::Supplemented),
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

vocabulary! {
    /// What moves an exchange without a party's response: the gateway itself, or an operator.
    pub enum Step {
        /// The opening message reached the recipient.
        Arrival => "ARRIVAL",
        /// The recipient has what was given up after all.
        LateArrival => "LATE_ARRIVAL",
        /// The opening message was given up.
        GivingUp => "GIVING_UP",
        /// An operator has it delivered again.
        Redelivery => "REDELIVERY",
        /// No supplement came in time (法律援助法 art 43).
        Lapse => "LAPSE",
    }
}

impl Step {
    /// The one state that it leads from, and the one that it leads to.
    pub const fn moves(self) -> (ExchangeState, ExchangeState) {
        use ExchangeState as S;
        match self {
            Self::Arrival => (S::Submitted, S::Delivered),
            Self::LateArrival => (S::Undeliverable, S::Delivered),
            Self::GivingUp => (S::Submitted, S::Undeliverable),
            Self::Redelivery => (S::Undeliverable, S::Submitted),
            Self::Lapse => (S::SupplementRequested, S::DeemedWithdrawn),
        }
    }
}

/// So many messages in a thread, and the recipient tells of no more steps and asks for no more papers: it decides.
/// Without an end, one party could make an exchange too large for the other to read.
pub const MOST_MESSAGES: u32 = 200;

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

impl IllegalTransition {
    /// The same in Chinese.
    pub fn description_zh(&self) -> String {
        let by = match self.by {
            Party::Sender => "发送机构",
            Party::Recipient => "接收机构",
        };
        let allowed: Vec<_> = self.allowed.iter().map(|response| response.name_zh()).collect();
        let allowed = if allowed.is_empty() { "无".to_owned() } else { allowed.join("、") };
        let (state, response) = (self.state.name_zh(), self.response.name_zh());
        format!("事项{state}，{by}不能{response}；可办理：{allowed}")
    }
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
mod tests;

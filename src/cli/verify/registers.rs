//! The registers, from the command line.

use std::time::Duration;

use tonic::Status;

use crate::client::AgencyClient;
use crate::grpc::proto;
use crate::grpc::proto::batch_verify_request::Question;
use crate::grpc::proto::batch_verify_response::Result as Outcome;

/// A register that can be asked.
pub(super) trait Register: Send + Sync + 'static {
    /// The question's name in the contract.
    const QUERY: &'static str;
    /// The answer's.
    const RESPONSE: &'static str;
    /// The kind of its questions.
    const KIND: proto::Kind;
    /// The question.
    type Query: prost::Message + Default + Clone + Send + Sync + 'static;
    /// The answer.
    type Response: prost::Message + Clone;

    /// Puts a person in, and the village where one is given.
    fn about(query: &mut Self::Query, subject: proto::Subject, village_code: &str);

    /// The question in a batch.
    fn in_batch(envelope: proto::Envelope, query: Self::Query, complete_later: bool) -> Question;

    /// The answer in a batch, where it is one of this register.
    fn of_batch(outcome: &Outcome) -> Option<Self::Response>;

    /// Asks.
    fn ask(
        client: &AgencyClient,
        envelope: proto::Envelope,
        query: Self::Query,
        complete_later: bool,
        deadline: Duration,
    ) -> impl Future<Output = Result<Self::Response, Status>> + Send;

    /// What is shown of an answer.
    fn shown(response: &Self::Response) -> Shown;
}

/// What is shown of an answer.
#[derive(Default)]
pub(super) struct Shown {
    /// Without its prefix.
    pub(super) result: String,
    pub(super) registry: String,
    /// Name and value of what is the register's own.
    pub(super) details: Vec<(String, String)>,
    pub(super) valid_until: String,
    pub(super) reason: String,
    pub(super) next_steps: Vec<proto::NextStep>,
    pub(super) verification_id: String,
    pub(super) log_index: Option<u64>,
}

/// The civil-affairs low-income register.
pub(super) struct LowIncome;

/// The rural-revitalisation organ's register of poverty households.
pub(super) struct Poverty;

/// What is written alike for every register, but for the names of its messages.
macro_rules! register {
    ($query:ident, $request:ident, $response:ident, $kind:ident, $call:ident, $arm:ident) => {
        const QUERY: &'static str = stringify!($query);
        const RESPONSE: &'static str = stringify!($response);
        const KIND: proto::Kind = proto::Kind::$kind;
        type Query = proto::$query;
        type Response = proto::$response;

        fn in_batch(envelope: proto::Envelope, query: proto::$query, complete_later: bool) -> Question {
            let (envelope, query) = (Some(envelope), Some(query));
            Question::$arm(proto::$request { envelope, query, complete_later })
        }

        fn of_batch(outcome: &Outcome) -> Option<proto::$response> {
            match outcome {
                Outcome::$arm(response) => Some(response.clone()),
                _ => None,
            }
        }

        async fn ask(
            client: &AgencyClient,
            envelope: proto::Envelope,
            query: proto::$query,
            complete_later: bool,
            deadline: Duration,
        ) -> Result<proto::$response, Status> {
            let (envelope, query) = (Some(envelope), Some(query));
            let request = client.request(proto::$request { envelope, query, complete_later }, deadline);
            Ok(client.verification().$call(request).await?.into_inner())
        }

        fn shown(response: &proto::$response) -> Shown {
            let answer = response.answer.clone().unwrap_or_default();
            Shown {
                result: short(answer.result().as_str_name(), "VERIFICATION_RESULT_"),
                registry: response.registry.clone(),
                details: answer.details(),
                valid_until: answer.valid_until.as_ref().map(day).unwrap_or_default(),
                reason: answer.reason,
                next_steps: answer.next_steps,
                verification_id: response.verification_id.clone(),
                log_index: response.audit.as_ref().map(|audit| audit.log_index),
            }
        }
    };
}

impl Register for LowIncome {
    register!(
        LowIncomeQuery,
        VerifyLowIncomeRequest,
        VerifyLowIncomeResponse,
        LowIncomeQuery,
        verify_low_income,
        LowIncome
    );

    fn about(query: &mut proto::LowIncomeQuery, subject: proto::Subject, _: &str) {
        query.subject = Some(subject);
    }
}

impl Register for Poverty {
    register!(
        PovertyHouseholdQuery,
        VerifyPovertyHouseholdRequest,
        VerifyPovertyHouseholdResponse,
        PovertyHouseholdQuery,
        verify_poverty_household,
        PovertyHousehold
    );

    fn about(query: &mut proto::PovertyHouseholdQuery, subject: proto::Subject, village_code: &str) {
        query.subject = Some(subject);
        village_code.clone_into(&mut query.village_code);
    }
}

/// What of an answer is its register's own.
trait Details {
    fn details(&self) -> Vec<(String, String)>;
}

impl Details for proto::LowIncomeAnswer {
    fn details(&self) -> Vec<(String, String)> {
        let programme = |programme: &proto::ProgrammeStatus| {
            let status = short(programme.status().as_str_name(), "REGISTER_STATUS_");
            let value = format!("{status} {}", programme.certificate_number);
            (short(programme.programme().as_str_name(), "PROGRAMME_"), value.trim_end().to_owned())
        };
        let mut details: Vec<_> = self.programmes.iter().map(programme).collect();
        if self.income_band != 0 {
            details.push(("income".to_owned(), short(self.income_band().as_str_name(), "INCOME_BAND_")));
        }
        details
    }
}

impl Details for proto::PovertyHouseholdAnswer {
    fn details(&self) -> Vec<(String, String)> {
        let mut details = Vec::new();
        let mut add = |name: &str, value: String| details.push((name.to_owned(), value));
        if self.kind != 0 {
            add("kind", short(self.kind().as_str_name(), "POVERTY_HOUSEHOLD_KIND_"));
        }
        if self.risk != 0 {
            add("risk", short(self.risk().as_str_name(), "POVERTY_RISK_"));
        }
        for (name, at) in [("identified", &self.identified_on), ("removed", &self.removed_on)] {
            if let Some(at) = at {
                add(name, day(at));
            }
        }
        if !self.village_code.is_empty() {
            add("village", self.village_code.clone());
        }
        details
    }
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}

fn day(day: &crate::grpc::generated::google::r#type::Date) -> String {
    format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)
}

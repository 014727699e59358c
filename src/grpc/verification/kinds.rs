//! What is each register's own in the calls about it.

use crate::access::Method;
use crate::delivery::registry::{LowIncome, PovertyHousehold, Register};
use crate::domain::exchange::Kind;
use crate::grpc::operation::Witnessed;
use crate::grpc::proto;

/// A register that centres ask about.
pub(super) trait Verifiable: Register {
    /// The method.
    const OF: Method;
    /// The kind of its questions.
    const KIND: Kind;
    /// What an envelope of another kind is told, in English and Chinese.
    const MUST_BE: (&'static str, &'static str);
    /// What a recipient that does not keep the register is told.
    const RECIPIENT: (&'static str, &'static str);
    /// The method's request.
    type Request: prost::Message + Default + Send + Sync + 'static;
    /// The method's answer.
    type Response: Witnessed;

    /// Envelope, query, and whether to complete it later.
    fn of_request(request: Self::Request) -> (Option<proto::Envelope>, Option<Self::Query>, bool);

    /// The answer to the centre.
    fn response(answer: Self::Answer, registry: String, verification_id: String) -> Self::Response;
}

macro_rules! verifiable {
    ($request:ident => $response:ident) => {
        type Request = proto::$request;
        type Response = proto::$response;

        fn of_request(request: proto::$request) -> (Option<proto::Envelope>, Option<Self::Query>, bool) {
            (request.envelope, request.query, request.complete_later)
        }

        fn response(answer: Self::Answer, registry: String, verification_id: String) -> proto::$response {
            proto::$response { answer: Some(answer), registry, verification_id, audit: None }
        }
    };
}

impl Verifiable for LowIncome {
    const OF: Method = Method::VerifyLowIncome;
    const KIND: Kind = Kind::LowIncomeQuery;
    const MUST_BE: (&'static str, &'static str) = ("must be KIND_LOW_INCOME_QUERY", "类型须为低收入查询");
    const RECIPIENT: (&'static str, &'static str) = (
        "must be an enrolled civil-affairs registry, or empty to be routed by the household's region",
        "须为已登记的民政系统；留空则按户籍地区自动选择",
    );

    verifiable!(VerifyLowIncomeRequest => VerifyLowIncomeResponse);
}

impl Verifiable for PovertyHousehold {
    const OF: Method = Method::VerifyPovertyHousehold;
    const KIND: Kind = Kind::PovertyHouseholdQuery;
    const MUST_BE: (&'static str, &'static str) =
        ("must be KIND_POVERTY_HOUSEHOLD_QUERY", "类型须为困难户查询");
    const RECIPIENT: (&'static str, &'static str) = (
        "must be an enrolled registry of the rural-revitalisation organ, or empty to be routed by the household's region",
        "须为已登记的乡村振兴系统；留空则按户籍地区自动选择",
    );

    verifiable!(VerifyPovertyHouseholdRequest => VerifyPovertyHouseholdResponse);
}

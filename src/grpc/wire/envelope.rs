//! Envelopes and call contexts.

use jiff::civil::Date;

use super::view::kind_of;
use super::{digest, length, text, word};
use crate::domain::agency::{CreditCode, MatterId, PurposeCode, StaffNumber, UnitCode};
use crate::domain::envelope::{Envelope, Operator, SCHEMA_VERSION};
use crate::domain::exchange::{DeliveryId, ExchangeId, Kind, RequestId, VerificationId};
use crate::domain::law::{Article, LegalBasis, LegalBasisError};
use crate::domain::person::{IdDocument, PersonName};
use crate::domain::region::RegionCode;
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Most attachments of one message.
const MOST_ATTACHMENTS: usize = 50;

/// What a method expects of an envelope.
#[derive(Clone, Copy)]
pub(crate) struct Expectation {
    /// The calling agency, from its certificate.
    pub(crate) caller: CreditCode,
    /// Whether the gateway may route when no recipient is given.
    pub(crate) recipient_optional: bool,
    /// Whether it answers an exchange.
    pub(crate) is_response: bool,
}

/// An envelope as far as it could be read: what is wrong with one field hides neither the rules on the others nor
/// what the audit log says of the call.
#[derive(Clone, Default)]
pub(crate) struct EnvelopeFields {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) matter_id: Option<MatterId>,
    pub(crate) kind: Option<Kind>,
    pub(crate) sender: Option<CreditCode>,
    /// `Some(None)` where the gateway is to route.
    pub(crate) recipient: Option<Option<CreditCode>>,
    pub(crate) region: Option<RegionCode>,
    pub(crate) operator: Option<Operator>,
    pub(crate) legal_basis: Vec<LegalBasis>,
    pub(crate) purpose: Option<PurposeCode>,
    /// `Some(None)` where it is rightly empty.
    pub(crate) in_reply_to: Option<Option<ExchangeId>>,
}

impl EnvelopeFields {
    /// The envelope, where every field could be read.
    pub(crate) fn whole(self) -> Option<Envelope> {
        Some(Envelope {
            request_id: self.request_id?,
            matter_id: self.matter_id?,
            kind: self.kind?,
            sender: self.sender?,
            recipient: self.recipient?,
            region: self.region?,
            operator: self.operator?,
            legal_basis: self.legal_basis,
            purpose: self.purpose?,
            in_reply_to: self.in_reply_to?,
        })
    }
}

/// A call context as far as it could be read.
#[derive(Clone, Default)]
pub(crate) struct ContextFields {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) operator: Option<Operator>,
    pub(crate) purpose: Option<PurposeCode>,
}

/// Reads an envelope; `field` paths start at `envelope`.
pub(crate) fn envelope(
    violations: &mut Violations,
    value: Option<&proto::Envelope>,
    expect: Expectation,
) -> EnvelopeFields {
    let Some(value) = violations.require("envelope", value) else { return EnvelopeFields::default() };
    violations.within("envelope", |v| {
        let request_id = request_id(v, &value.request_id);
        let matter_id = mandatory(v, "matter_id", &value.matter_id, MatterId::parse);
        let kind = word(v, "kind", value.kind, kind);
        if value.schema_version != SCHEMA_VERSION {
            v.add(
                "schema_version",
                "SCHEMA_VERSION",
                format!("this version reads schema {SCHEMA_VERSION}"),
                format!("本版本仅支持内容版本{SCHEMA_VERSION}"),
            );
        }
        let sender = mandatory(v, "sender", &value.sender, CreditCode::parse);
        if sender.is_some_and(|sender| sender != expect.caller) {
            v.add(
                "sender",
                "SENDER_IS_THE_CALLER",
                "the sender must be the agency that the certificate names",
                "发送机构须与证书所载机构一致",
            );
        }
        let recipient = if value.recipient.is_empty() && expect.recipient_optional {
            Some(None)
        } else {
            mandatory(v, "recipient", &value.recipient, CreditCode::parse).map(Some)
        };
        if recipient.flatten().is_some_and(|recipient| Some(recipient) == sender) {
            v.add(
                "recipient",
                "NOT_TO_ONESELF",
                "sender and recipient must differ",
                "发送机构与接收机构不得相同",
            );
        }
        let region = mandatory(v, "region", &value.region, RegionCode::parse);
        let operator = operator(v, value.operator.as_ref());
        let legal_basis = legal_basis(v, &value.legal_basis);
        let purpose = mandatory(v, "purpose", &value.purpose, PurposeCode::parse);
        attachments(v, &value.attachments);
        classification(v, value.classification.as_ref());
        let in_reply_to = if expect.is_response {
            exchange_id(v, "in_reply_to", &value.in_reply_to).map(Some)
        } else {
            if !value.in_reply_to.is_empty() {
                v.add(
                    "in_reply_to",
                    "ONLY_IN_RESPONSES",
                    "only a response answers an exchange",
                    "仅答复消息填写此项",
                );
            }
            Some(None)
        };
        EnvelopeFields {
            request_id,
            matter_id,
            kind,
            sender,
            recipient,
            region,
            operator,
            legal_basis,
            purpose,
            in_reply_to,
        }
    })
}

/// Reads a call context; `field` paths start at `context`.
pub(crate) fn call_context(violations: &mut Violations, value: Option<&proto::CallContext>) -> ContextFields {
    let Some(value) = violations.require("context", value) else { return ContextFields::default() };
    violations.within("context", |v| {
        let request_id = request_id(v, &value.request_id);
        let operator = operator(v, value.operator.as_ref());
        let purpose = mandatory(v, "purpose", &value.purpose, PurposeCode::parse);
        ContextFields { request_id, operator, purpose }
    })
}

/// Reads a mandatory exchange id.
pub(crate) fn exchange_id(violations: &mut Violations, field: &str, value: &str) -> Option<ExchangeId> {
    uuid(violations, field, value, ExchangeId::parse)
}

/// Reads a mandatory delivery id.
pub(crate) fn delivery_id(violations: &mut Violations, field: &str, value: &str) -> Option<DeliveryId> {
    uuid(violations, field, value, DeliveryId::parse)
}

/// Reads a mandatory verification id.
pub(crate) fn verification_id(
    violations: &mut Violations,
    field: &str,
    value: &str,
) -> Option<VerificationId> {
    uuid(violations, field, value, VerificationId::parse)
}

fn request_id(violations: &mut Violations, value: &str) -> Option<RequestId> {
    uuid(violations, "request_id", value, RequestId::parse)
}

/// Reads a mandatory UUID.
pub(crate) fn uuid<T>(
    violations: &mut Violations,
    field: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    if value.is_empty() {
        return violations.require(field, None);
    }
    let id = parse(value);
    if id.is_none() {
        violations.add(field, "UUID", "must be a UUID in its hyphenated form", "须为带连字符的UUID");
    }
    id
}

/// Reads a mandatory value that its own type parses.
pub(super) fn mandatory<T, E: crate::domain::violation::BrokenRule>(
    violations: &mut Violations,
    field: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    if value.is_empty() { violations.require(field, None) } else { violations.check(field, parse(value)) }
}

fn operator(violations: &mut Violations, value: Option<&proto::Operator>) -> Option<Operator> {
    let value = violations.require("operator", value)?;
    violations.within("operator", |v| {
        let staff_number = mandatory(v, "staff_number", &value.staff_number, StaffNumber::parse);
        let unit = mandatory(v, "unit", &value.unit, UnitCode::parse);
        let name = if value.name.is_empty() {
            Some(None)
        } else {
            v.check("name", PersonName::parse(&value.name)).map(Some)
        };
        Some(Operator { staff_number: staff_number?, name: name?, unit: unit? })
    })
}

/// Reads the articles relied on: at least one.
pub(crate) fn legal_basis(violations: &mut Violations, values: &[proto::LegalBasis]) -> Vec<LegalBasis> {
    let article = Article::personal_information_protection_law("13");
    if values.is_empty() || values.len() > 10 {
        violations.add_by_article(
            "legal_basis",
            "ONE_TO_TEN",
            "one to ten articles of law must be named",
            "须列明一至十条法律依据",
            article,
        );
    }
    let read = |(place, value): (usize, &proto::LegalBasis)| {
        violations.within(&format!("legal_basis[{place}]"), |v| one_basis(v, value))
    };
    values.iter().take(10).enumerate().filter_map(read).collect()
}

/// Reads one article of law; `field` paths are relative to it.
pub(crate) fn one_basis(violations: &mut Violations, value: &proto::LegalBasis) -> Option<LegalBasis> {
    let law = (!value.law.is_empty()).then_some(&value.law);
    let article = (!value.article.is_empty()).then_some(&value.article);
    let (law, article) = (violations.require("law", law), violations.require("article", article));
    let (law, article) = (law?, article?);
    LegalBasis::parse(law, article)
        .map_err(|error| {
            let field = match error {
                LegalBasisError::Law => "law",
                LegalBasisError::Article => "article",
            };
            violations.check::<(), _>(field, Err(error));
        })
        .ok()
}

fn attachments(violations: &mut Violations, values: &[proto::Attachment]) {
    if values.len() > MOST_ATTACHMENTS {
        violations.add(
            "attachments",
            "AT_MOST_50",
            format!("at most {MOST_ATTACHMENTS} attachments"),
            format!("附件不得超过{MOST_ATTACHMENTS}件"),
        );
    }
    for (place, value) in values.iter().take(MOST_ATTACHMENTS).enumerate() {
        violations.within(&format!("attachments[{place}]"), |v| {
            digest(v, "sha256", &value.sha256);
            text(v, "name", &value.name, 1, 255);
            if text(v, "media_type", &value.media_type, 3, 127).is_some() && !is_media_type(&value.media_type)
            {
                v.add(
                    "media_type",
                    "MEDIA_TYPE",
                    "must be a media type such as application/pdf",
                    "须为有效的媒体类型",
                );
            }
            if value.size_bytes <= 0 {
                v.add("size_bytes", "POSITIVE", "must be greater than zero", "须大于零");
            }
            length(v, "form_number", &value.form_number, 0, 64);
        });
    }
}

fn is_media_type(value: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    value.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn classification(violations: &mut Violations, value: Option<&proto::Classification>) {
    let Some(value) = violations.require("classification", value) else { return };
    violations.require("classification.sensitive", value.sensitive);
    violations.require("classification.minor_under_14", value.minor_under_14);
    if value.minor_under_14 == Some(true) && value.sensitive == Some(false) {
        violations.add_by_article(
            "classification.sensitive",
            "MINORS_DATA_IS_SENSITIVE",
            "data of a minor under 14 is sensitive",
            "不满十四周岁未成年人的个人信息属于敏感个人信息",
            Article::personal_information_protection_law("28"),
        );
    }
}

/// Whether the classification agrees with the age that the person's document says.
pub(crate) fn check_minor(
    violations: &mut Violations,
    envelope: Option<&proto::Envelope>,
    id: Option<&IdDocument>,
    today: Date,
) {
    let stated = envelope.and_then(|envelope| envelope.classification.as_ref()?.minor_under_14);
    let (Some(stated), Some(age)) = (stated, id.and_then(|id| id.age_on(today))) else { return };
    if stated != (age < 14) {
        violations.add_by_article(
            "envelope.classification.minor_under_14",
            "AGREES_WITH_ID_NUMBER",
            "must agree with the age that the document's number says",
            "须与证件号码所载年龄一致",
            Article::personal_information_protection_law("28"),
        );
    }
}

fn kind(value: proto::Kind) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind_of(*kind) == value)
}

//! The one place where a refusal becomes a `tonic::Status`.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{
    BadRequest, ErrorDetail, ErrorInfo, FieldViolation, LocalizedMessage, QuotaFailure, QuotaViolation,
    RetryInfo, StatusExt,
};

use super::quota::QuotaSpent;
use crate::access::Denial;
use crate::domain::exchange::{DeliveryState, IllegalTransition};
use crate::domain::violation::Violation;
use crate::store::AgreementState;

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "exchange.legalaid";

/// Header of an answer that carries the index of its audit entry.
pub const LOG_INDEX_HEADER: &str = "audit-log-index";

/// Bytes of violations in one answer. Clients limit headers to 8 KiB, and these travel in base64.
const VIOLATION_BYTES: usize = 4_800;

/// Why a call is not carried out, or not to its end.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Everything that is wrong with the request.
    Invalid(Vec<Violation>),
    /// No agreement allows it.
    Denied(Box<Denial>),
    /// No agreement allows it, and to say so would tell that it exists: the caller is told what it is told of nothing.
    DeniedUntold(Box<Denial>),
    /// Nothing is left of the quota of the agreement that allows it.
    QuotaSpent(Box<QuotaSpent>),
    /// The version of the agreement stands so that the change cannot be made.
    AgreementStands(AgreementState),
    /// Who put the version in cannot approve it.
    ApprovalBySamePerson,
    /// Nothing of that id that the caller may see.
    NotFound,
    /// The entry, or one of those asked for together, was pruned.
    Pruned,
    /// No registry is responsible for the region.
    NoRegistry,
    /// The exchange's state does not allow it.
    IllegalTransition(IllegalTransition),
    /// The exchange's messages were erased.
    Erased,
    /// The delivery does not wait, but stands so.
    NotWaiting(DeliveryState),
    /// Nothing of the exchange was given up.
    NothingGivenUp,
    /// The request id was used for something else.
    RequestIdReused,
    /// The same request id is being worked on.
    StillRunning,
    /// Something changed meanwhile.
    Conflict,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The request was not whole in time.
    RequestLate,
    /// Messages of this agency, or of all, take as many bytes as there are for them.
    NoRoom,
    /// The `grpc-timeout` cannot be read.
    BadTimeout,
    /// Too many calls at once.
    Overloaded,
    /// Too many calls at once of this agency.
    AgencyOverloaded,
    /// The agency calls faster than its agreement says; there is room again after this time.
    TooFast(Duration),
    /// The agency is not active any more.
    AgencyNotActive,
    /// The certificate of the connection has ended.
    CertificateExpired,
    /// The key of the connection is not, or not today, among those that the agency is enrolled with.
    KeyNotEnrolled,
    /// Not a gRPC request.
    NotGrpc,
    /// Not a request that fetches something of the published log.
    NotAFetch,
    /// The audit log cannot be written: no work without evidence.
    LogUnavailable,
    /// The witnesses of the log lag too far behind: the policy says that no work is taken.
    WitnessLag,
    /// The agency has as many attachments as it may.
    TooManyAttachments,
    /// The peer went away before its stream came to an end.
    PeerGone,
    /// The peer sent nothing, or took nothing, for too long.
    StreamIdle,
    /// The gateway is about to stop.
    Stopping,
    /// The database does not answer.
    StoreUnavailable,
    /// Persons are named by a key that this gateway lacks: it does not find all of them.
    PseudonymKeyMissing,
    /// Entries are being indexed that a search would have to know.
    SearchBehind {
        /// Entries indexed.
        indexed: u64,
        /// Entries of the log.
        entries: u64,
    },
    /// A fault of the gateway.
    Internal,
    /// The message is compressed in a way that is not taken.
    Compressed,
    /// Refused by the transport before it was read: too large, not decodable, no such method.
    Unreadable(Code),
}

/// Code, reason, English, Chinese, and when to try again.
struct Wording(Code, &'static str, String, String, Option<Duration>);

impl Refusal {
    /// Whether the agency may not do what it asked for, as the audit log means it.
    pub(crate) fn is_denial(&self) -> bool {
        self.denial().is_some()
            || matches!(
                self,
                Self::AgencyNotActive | Self::CertificateExpired | Self::KeyNotEnrolled | Self::QuotaSpent(_)
            )
    }

    /// The reason in UPPER_SNAKE, as in `google.rpc.ErrorInfo` and in the audit log.
    pub(crate) fn reason(&self) -> &'static str {
        self.wording().1
    }

    /// The gRPC code.
    pub(crate) fn code(&self) -> Code {
        self.wording().0
    }

    /// The answer, with the index of its audit entry where there is one.
    pub(crate) fn into_status(self, log_index: Option<u64>) -> Status {
        let Wording(code, reason, english, chinese, retry) = self.wording();
        let mut metadata: HashMap<_, _> =
            log_index.map(|index| ("log_index".to_owned(), index.to_string())).into_iter().collect();
        if let Self::Denied(denial) = &self {
            metadata.extend(named_in(denial));
        }
        let mut details: Vec<ErrorDetail> = vec![ErrorInfo::new(reason, ERROR_DOMAIN, metadata).into()];
        if let Self::Invalid(violations) = &self {
            details.push(BadRequest::new(field_violations(violations)).into());
        }
        if let Self::QuotaSpent(spent) = &self {
            details.push(quota_failure(spent, &english).into());
        }
        if let Some(delay) = retry {
            details.push(RetryInfo::new(Some(delay)).into());
        }
        details.push(LocalizedMessage::new("zh-CN", chinese).into());
        details.push(LocalizedMessage::new("en", english.as_str()).into());
        let mut status = Status::with_error_details_vec(code, english, details);
        if let Some(index) = log_index {
            status.metadata_mut().insert(LOG_INDEX_HEADER, index.into());
        }
        status
    }

    fn wording(&self) -> Wording {
        let say = |code, reason, english: &str, chinese: &str| {
            Wording(code, reason, english.to_owned(), chinese.to_owned(), None)
        };
        let retry =
            |wording: Wording, after| Wording(wording.0, wording.1, wording.2, wording.3, Some(after));
        let second = Duration::from_secs(1);
        match self {
            Self::Invalid(violations) => say(
                Code::InvalidArgument,
                "INVALID_REQUEST",
                &format!("{} rule(s) broken, each listed with its field", violations.len()),
                &format!("请求有{}处不符合规定，已逐项列明", violations.len()),
            ),
            Self::Denied(denial) => Wording(
                Code::PermissionDenied,
                denial.reason(),
                denial.to_string(),
                denial.description_zh(),
                None,
            ),
            Self::QuotaSpent(spent) => retry(
                say(Code::ResourceExhausted, "QUOTA_SPENT", &spent.description(), &spent.description_zh()),
                spent.retry_after,
            ),
            Self::AgreementStands(state) => say(
                Code::FailedPrecondition,
                "AGREEMENT_STANDS_OTHERWISE",
                &format!("the version is {state}: approve what is PENDING, end what is PENDING or EFFECTIVE"),
                &format!("该版本状态为{state}：仅可批准待批版本，或者终止待批、生效版本"),
            ),
            Self::ApprovalBySamePerson => say(
                Code::FailedPrecondition,
                "APPROVAL_BY_ANOTHER",
                "whoever put the version in cannot approve it; another operator must",
                "提交人不得自行批准，须由另一经办人员批准",
            ),
            Self::NotFound | Self::DeniedUntold(_) => say(
                Code::NotFound,
                "NOT_FOUND",
                "there is no such thing that this agency may see",
                "未找到本机构可查看的对应记录",
            ),
            Self::Pruned => say(
                Code::NotFound,
                "PRUNED",
                "bytes of it were pruned past retention, only hashes are left; GetEntry says when and by whom, and \
                 tile/kept/<N> has the entries beside it",
                "相关记录已超过保存期限并被清理，仅保留散列值；可通过GetEntry查询清理时间和机构",
            ),
            Self::NoRegistry => say(
                Code::FailedPrecondition,
                "NO_REGISTRY_FOR_REGION",
                "no enrolled registry is responsible for the household's region; ask the operator to enrol one",
                "该户籍地区尚无已登记的登记系统，请联系运维人员",
            ),
            Self::IllegalTransition(error) => Wording(
                Code::FailedPrecondition,
                "ILLEGAL_TRANSITION",
                error.to_string(),
                error.description_zh(),
                None,
            ),
            Self::Erased => say(
                Code::FailedPrecondition,
                "ERASED",
                "the messages of this exchange were erased, nothing can be added or delivered again; open a new exchange",
                "本事项的内容已依法删除，不能再作答复或重新送达；如有需要请另行提交",
            ),
            Self::NotWaiting(state) => say(
                Code::FailedPrecondition,
                "DELIVERY_DOES_NOT_WAIT",
                match state {
                    DeliveryState::Delivered => "the recipient has it: there is nothing to try again",
                    DeliveryState::Dead => "it was given up: redeliver its exchange",
                    _ => "it is on its way now; it waits again if that fails, or when its lease ends",
                },
                match state {
                    DeliveryState::Delivered => "对方已收到，无需重试",
                    DeliveryState::Dead => "已放弃投递，请对该事项重新投递",
                    _ => "正在投递中；失败或者租约到期后方可重试",
                },
            ),
            Self::NothingGivenUp => say(
                Code::FailedPrecondition,
                "NOTHING_GIVEN_UP",
                "no delivery of this exchange was given up; what waits can be retried one by one",
                "该事项没有已放弃的投递；等待中的投递可逐一重试",
            ),
            Self::RequestIdReused => say(
                Code::AlreadyExists,
                "REQUEST_ID_REUSED",
                "this request id was used for another request; take a new one",
                "该请求编号已用于其他请求，请使用新的编号",
            ),
            Self::StillRunning => retry(
                say(
                    Code::Aborted,
                    "REQUEST_STILL_RUNNING",
                    "the same request is being worked on; ask again with the same request id",
                    "相同请求正在处理，请用同一请求编号稍后重试",
                ),
                second,
            ),
            Self::Conflict => retry(
                say(
                    Code::Aborted,
                    "CHANGED_MEANWHILE",
                    "the exchange or delivery changed meanwhile; read it and try again",
                    "该事项已被同时修改，请重新读取后再试",
                ),
                Duration::from_millis(100),
            ),
            Self::DeadlineExceeded => say(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "the call's deadline has passed",
                "已超过调用时限",
            ),
            Self::RequestLate => say(
                Code::DeadlineExceeded,
                "REQUEST_LATE",
                "the request was not whole in time; send its message at once",
                "请求未能在规定时间内发送完毕，请一次性发送",
            ),
            Self::NoRoom => retry(
                say(
                    Code::ResourceExhausted,
                    "NO_ROOM",
                    "messages half sent and answers not read take all the room there is; finish them, and try again \
                     shortly",
                    "未发送完的请求或者未读取的答复占用过多，请先处理完毕，稍后重试",
                ),
                second,
            ),
            Self::BadTimeout => say(
                Code::InvalidArgument,
                "BAD_TIMEOUT",
                "grpc-timeout must be 1 to 8 digits and one of H M S m u n",
                "grpc-timeout格式不正确",
            ),
            Self::Overloaded => retry(
                say(
                    Code::ResourceExhausted,
                    "OVERLOADED",
                    "the gateway has too many calls at once; try again shortly",
                    "系统繁忙，请稍后重试",
                ),
                second,
            ),
            Self::AgencyOverloaded => retry(
                say(
                    Code::ResourceExhausted,
                    "AGENCY_OVERLOADED",
                    "this agency has too many calls at once; try again shortly",
                    "本机构并发调用过多，请稍后重试",
                ),
                second,
            ),
            Self::TooFast(wait) => retry(
                say(
                    Code::ResourceExhausted,
                    "RATE_EXCEEDED",
                    "this agency calls faster than its agreement allows; try again after the time given",
                    "调用频率超出协议约定，请按提示时间稍后重试",
                ),
                *wait,
            ),
            Self::AgencyNotActive => say(
                Code::PermissionDenied,
                "AGENCY_NOT_ACTIVE",
                "this agency is not enrolled or not active; ask the operator",
                "本机构未登记或已停用，请联系运维人员",
            ),
            Self::CertificateExpired => say(
                Code::PermissionDenied,
                "CERTIFICATE_EXPIRED",
                "the certificate of this connection has expired; connect with a valid one",
                "本连接所用证书已过期，请使用有效证书重新连接",
            ),
            Self::KeyNotEnrolled => say(
                Code::PermissionDenied,
                "KEY_NOT_ENROLLED",
                "this agency is not enrolled with the key of this connection; ask the operator",
                "本机构未以本连接所用密钥登记，请联系运维人员",
            ),
            Self::NotGrpc => say(
                Code::InvalidArgument,
                "NOT_GRPC",
                "only POST with content type application/grpc is served",
                "仅支持gRPC请求",
            ),
            Self::NotAFetch => say(
                Code::InvalidArgument,
                "NOT_A_FETCH",
                "only GET and HEAD requests without a body are served here",
                "此处仅支持不带请求体的GET和HEAD请求",
            ),
            Self::LogUnavailable => retry(
                say(
                    Code::Unavailable,
                    "AUDIT_LOG_UNAVAILABLE",
                    "the audit log cannot be written, so no work is taken; try again shortly",
                    "审计日志暂时无法写入，系统暂停受理，请稍后重试",
                ),
                second,
            ),
            Self::WitnessLag => retry(
                say(
                    Code::Unavailable,
                    "WITNESS_LAG",
                    "the witnesses of the audit log have not cosigned it for too long, so no new work is taken; try again \
                     later with the same request id",
                    "审计日志的见证方长时间未确认，系统暂停受理新业务，请用同一请求编号稍后重试",
                ),
                Duration::from_secs(15),
            ),
            Self::TooManyAttachments => say(
                Code::ResourceExhausted,
                "TOO_MANY_ATTACHMENTS",
                "this agency has as many attachments, or bytes of them, as the gateway keeps for one agency; ask the operator",
                "本机构附件数量或者总大小已达上限，请联系运维人员",
            ),
            Self::PeerGone => say(
                Code::Cancelled,
                "PEER_GONE",
                "the caller went away before the stream came to its end",
                "调用方在数据流结束前断开",
            ),
            Self::StreamIdle => say(
                Code::DeadlineExceeded,
                "STREAM_IDLE",
                "nothing was sent or taken on the stream for too long; begin again where it ended",
                "数据流长时间无进展，请从中断处继续",
            ),
            Self::Stopping => retry(
                say(
                    Code::Unavailable,
                    "GATEWAY_STOPPING",
                    "the gateway is about to stop; begin again where the stream ended",
                    "系统即将停止，请稍后从中断处继续",
                ),
                second,
            ),
            Self::SearchBehind { indexed, entries } => retry(
                say(
                    Code::Unavailable,
                    "SEARCH_INDEX_BEHIND",
                    &format!(
                        "the search index is being built: {indexed} of {entries} entries so far; try again shortly, \
                         or list without a filter"
                    ),
                    &format!(
                        "检索索引正在生成（已完成{indexed}条，共{entries}条），请稍后重试，或者不带条件逐页列出"
                    ),
                ),
                Duration::from_secs(5),
            ),
            Self::StoreUnavailable => retry(
                say(
                    Code::Unavailable,
                    "STORE_UNAVAILABLE",
                    "the database does not answer; try again shortly",
                    "数据库暂时不可用，请稍后重试",
                ),
                second,
            ),
            Self::PseudonymKeyMissing => retry(
                say(
                    Code::Unavailable,
                    "PSEUDONYM_KEY_MISSING",
                    "this gateway has not been given the newest key of pseudonyms and would miss entries; ask another one, or \
                     its operator",
                    "本系统尚未取得最新的假名密钥，检索结果可能不完整，请改用其他节点或者联系运维人员",
                ),
                Duration::from_secs(15),
            ),
            Self::Internal => say(
                Code::Internal,
                "INTERNAL",
                "a fault of the gateway; its operator finds it by the log index",
                "系统内部错误，运维人员可凭日志序号查找",
            ),
            Self::Compressed => say(
                Code::Unimplemented,
                "COMPRESSION_NOT_SUPPORTED",
                "messages are taken uncompressed only; leave grpc-encoding out",
                "仅接受未压缩的消息",
            ),
            Self::Unreadable(code) => say(
                *code,
                match code {
                    Code::OutOfRange | Code::ResourceExhausted => "MESSAGE_TOO_LARGE",
                    Code::Unimplemented => "NO_SUCH_METHOD",
                    _ => "UNREADABLE_REQUEST",
                },
                match code {
                    Code::OutOfRange | Code::ResourceExhausted => {
                        "the message is larger than this gateway takes"
                    }
                    Code::Unimplemented => "there is no such method",
                    _ => "the request cannot be read",
                },
                match code {
                    Code::OutOfRange | Code::ResourceExhausted => "消息超过允许的大小",
                    Code::Unimplemented => "没有此方法",
                    _ => "无法读取请求",
                },
            ),
        }
    }
}

impl Refusal {
    /// The denial behind a refusal, whether the caller is told of it or not.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Denied(denial) | Self::DeniedUntold(denial) => Some(denial),
            _ => None,
        }
    }
}

/// The agreement that would have allowed a call, and the condition of it that failed.
fn named_in(denial: &Denial) -> Vec<(String, String)> {
    let mut named = vec![("condition".to_owned(), denial.reason().to_owned())];
    if let Some(nearest) = denial.nearest() {
        named.push(("agreement".to_owned(), nearest.agreement.id.clone()));
        named.push(("agreement_version".to_owned(), nearest.agreement.version.clone()));
        named.push(("in_force_from".to_owned(), nearest.in_force.0.to_string()));
        named.push(("in_force_until".to_owned(), nearest.in_force.1.to_string()));
    }
    named
}

fn quota_failure(spent: &QuotaSpent, description: &str) -> QuotaFailure {
    QuotaFailure::new([QuotaViolation {
        subject: format!("agreement:{}", spent.agreement_id),
        description: description.to_owned(),
        ..Default::default()
    }])
}

fn field_violations(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut used = 0;
    let mut listed = Vec::with_capacity(violations.len());
    for (place, violation) in violations.iter().enumerate() {
        let article = violation.article.map(|article| format!(" ({article})")).unwrap_or_default();
        let cited =
            violation.article.map(|article| format!("（{}）", article.cited_zh())).unwrap_or_default();
        let description = format!("{}{article}", violation.description);
        let chinese = format!("{}{cited}", violation.description_zh);
        used += violation.field.len() + violation.rule.len() + description.len() + chinese.len() + 20;
        if used > VIOLATION_BYTES {
            let left = violations.len() - place;
            listed.push(FieldViolation {
                field: String::new(),
                reason: "AND_MORE".to_owned(),
                description: format!("and {left} more that do not fit into an answer"),
                localized_message: Some(LocalizedMessage::new("zh-CN", format!("另有{left}处"))),
            });
            break;
        }
        listed.push(FieldViolation {
            field: violation.field.clone(),
            reason: violation.rule.to_owned(),
            description,
            localized_message: Some(LocalizedMessage::new("zh-CN", chinese)),
        });
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::law::Article;

    fn violation(field: usize) -> Violation {
        Violation {
            field: format!("content.fee_waiver.applicant.field_{field}"),
            rule: "REQUIRED",
            description: "is mandatory".to_owned(),
            description_zh: "必填".to_owned(),
            article: Some(Article::court_fee_measures("48")),
        }
    }

    #[test]
    fn an_answer_lists_every_violation_with_its_article_and_the_log_index() {
        let refusal = Refusal::Invalid((0..20).map(violation).collect());
        let status = refusal.into_status(Some(7));
        let details = status.get_error_details();
        let listed = &details.bad_request().unwrap().field_violations;
        assert_eq!(listed.len(), 20);
        assert!(listed[0].description.contains("诉讼费用交纳办法 art 48"), "{}", listed[0].description);
        assert_eq!(details.error_info().unwrap().metadata["log_index"], "7");
        assert_eq!(status.metadata().get(LOG_INDEX_HEADER).unwrap(), "7");
    }

    #[test]
    fn an_answer_stays_below_what_clients_take_as_headers() {
        let refusal = Refusal::Invalid((0..2_000).map(violation).collect());
        let status = refusal.into_status(Some(7));
        assert!(status.details().len() * 4 / 3 < 7_800, "{}", status.details().len());
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations.last().unwrap().reason, "AND_MORE");
    }
}

//! The official forms, item by item.

/// Whether an item must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Mandatory,
    Conditional,
    Optional,
}

impl Need {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Mandatory => "M",
            Self::Conditional => "C",
            Self::Optional => "O",
        }
    }
}

/// A form, or a part that forms share.
pub(crate) struct Form {
    pub(crate) title: &'static str,
    /// The messages that it is made of.
    pub(crate) messages: &'static [&'static str],
    pub(crate) items: &'static [Item],
}

/// An item of a form, and the fields that hold it.
pub(crate) struct Item {
    pub(crate) item: &'static str,
    pub(crate) need: Need,
    pub(crate) fields: &'static [&'static str],
}

const fn m(item: &'static str, fields: &'static [&'static str]) -> Item {
    Item { item, need: Need::Mandatory, fields }
}

const fn c(item: &'static str, fields: &'static [&'static str]) -> Item {
    Item { item, need: Need::Conditional, fields }
}

const fn o(item: &'static str, fields: &'static [&'static str]) -> Item {
    Item { item, need: Need::Optional, fields }
}

pub(crate) const FORMS: &[Form] = &[
    Form {
        title: "Envelope",
        messages: &["Envelope"],
        items: &[
            m("request id", &["Envelope.request_id"]),
            m("matter id (the centre's case)", &["Envelope.matter_id"]),
            m("kind, schema version", &["Envelope.kind", "Envelope.schema_version"]),
            m("sender and recipient agency", &["Envelope.sender", "Envelope.recipient"]),
            m("region", &["Envelope.region"]),
            m("operator: staff number, unit", &["Operator.staff_number", "Operator.unit"]),
            o("operator: name", &["Operator.name"]),
            m("legal basis: law, article", &["Envelope.legal_basis", "LegalBasis.law", "LegalBasis.article"]),
            m("purpose code", &["Envelope.purpose"]),
            o("attachments", &["Envelope.attachments"]),
            m(
                "of an attachment: sha256, name, media type, size",
                &["Attachment.sha256", "Attachment.name", "Attachment.media_type", "Attachment.size_bytes"],
            ),
            o("of an attachment: form number", &["Attachment.form_number"]),
            m(
                "classification: sensitive, minor under 14",
                &["Envelope.classification", "Classification.sensitive", "Classification.minor_under_14"],
            ),
            c("in reply to", &["Envelope.in_reply_to"]),
        ],
    },
    Form {
        title: "Person",
        messages: &["Person"],
        items: &[
            m("name", &["Person.name"]),
            m("kind and number of the identity document", &["Person.id_kind", "Person.id_number"]),
            o("sex, birth date", &["Person.sex", "Person.birth_date"]),
            m("household region", &["Person.household_region"]),
            m("phone", &["Person.phone"]),
            o("groups", &["Person.groups"]),
            c("representative", &["Person.representative"]),
            m(
                "of a representative: name, document, relation, basis",
                &[
                    "Representative.name",
                    "Representative.id_kind",
                    "Representative.id_number",
                    "Representative.relation",
                    "Representative.basis",
                ],
            ),
        ],
    },
    Form {
        title: "Fee waiver request",
        messages: &["FeeWaiverRequest"],
        items: &[
            m("applicant", &["FeeWaiverRequest.applicant"]),
            m("applicant kind", &["FeeWaiverRequest.applicant_kind"]),
            m(
                "case: court, cause of action, instance, role",
                &[
                    "FeeWaiverRequest.court_case",
                    "CourtCase.court",
                    "CourtCase.cause_of_action",
                    "CourtCase.instance",
                    "CourtCase.role",
                ],
            ),
            c("case number, after docketing", &["CourtCase.case_number", "CourtCase.docketed_on"]),
            m("claim kind", &["FeeWaiverRequest.claim_kind"]),
            c("claimed sum", &["FeeWaiverRequest.claimed_sum_fen"]),
            m("fee", &["FeeWaiverRequest.fee_fen"]),
            m("relief asked", &["FeeWaiverRequest.relief"]),
            c("permille of a reduction", &["FeeWaiverRequest.reduction_permille"]),
            m("ground", &["FeeWaiverRequest.ground"]),
            c("aid decision", &["FeeWaiverRequest.aid_decision"]),
            m(
                "of an aid decision: centre, number, date, document",
                &[
                    "AidDecision.centre",
                    "AidDecision.number",
                    "AidDecision.decided_on",
                    "AidDecision.document_sha256",
                ],
            ),
            c("hardship proof", &["FeeWaiverRequest.hardship_proof"]),
            m("reason", &["FeeWaiverRequest.reason"]),
            m("filed at", &["FeeWaiverRequest.filed_at"]),
        ],
    },
    Form {
        title: "Fee waiver decision",
        messages: &["FeeWaiverDecision"],
        items: &[
            m("outcome", &["FeeWaiverDecision.outcome"]),
            c("sum, or until when", &["FeeWaiverDecision.payable_fen", "FeeWaiverDecision.deferred_until"]),
            m("notice number", &["FeeWaiverDecision.notice_number"]),
            c("reasons, when refused", &["FeeWaiverDecision.reasons"]),
            m("hardship re-reviewed", &["FeeWaiverDecision.hardship_rereviewed"]),
            o("final allocation at close", &["Closure.final_allocation"]),
        ],
    },
    Form {
        title: "Responses of every kind",
        messages: &["Receipt", "SupplementRequest", "Supplement", "Withdrawal", "Closure"],
        items: &[
            m("receipt: digest, time", &["Receipt.message_sha256", "Receipt.received_at"]),
            m(
                "supplement request: everything missing, until when",
                &["SupplementRequest.missing", "MissingPaper.description", "SupplementRequest.due_on"],
            ),
            m("supplement", &["Supplement.note"]),
            m("withdrawal", &["Withdrawal.reason"]),
            m("closing", &["Closure.closed_on"]),
        ],
    },
    Form {
        title: "Low-income query",
        messages: &["LowIncomeQuery"],
        items: &[
            m(
                "subject: name, document",
                &["LowIncomeQuery.subject", "Subject.name", "Subject.id_kind", "Subject.id_number"],
            ),
            m("household scope", &["LowIncomeQuery.household_scope"]),
            m("programmes asked", &["LowIncomeQuery.programmes"]),
            m("as-of date", &["LowIncomeQuery.as_of"]),
            m("authority", &["LowIncomeQuery.authority", "Authority.kind"]),
            c(
                "authority: document, signed at, signer",
                &["Authority.document_sha256", "Authority.signed_at", "Authority.signer_relation"],
            ),
            m("matter", &["Envelope.matter_id"]),
        ],
    },
    Form {
        title: "Low-income answer",
        messages: &["LowIncomeAnswer"],
        items: &[
            m("result", &["LowIncomeAnswer.result"]),
            c("per programme", &["LowIncomeAnswer.programmes"]),
            m("of a programme: which, status", &["ProgrammeStatus.programme", "ProgrammeStatus.status"]),
            o(
                "of a programme: certificate number, from, to, organ",
                &[
                    "ProgrammeStatus.certificate_number",
                    "ProgrammeStatus.valid_from",
                    "ProgrammeStatus.valid_to",
                    "ProgrammeStatus.organ",
                ],
            ),
            o("household size", &["LowIncomeAnswer.household_size"]),
            o("per-capita income as a band", &["LowIncomeAnswer.income_band"]),
            c("the line and its date", &["LowIncomeAnswer.line_fen", "LowIncomeAnswer.line_in_force_from"]),
            m("data as of, valid until", &["LowIncomeAnswer.data_as_of", "LowIncomeAnswer.valid_until"]),
            m("source", &["LowIncomeAnswer.source"]),
            c("reason", &["LowIncomeAnswer.reason"]),
        ],
    },
];

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
    Form {
        title: "Judicial relief request",
        messages: &["JudicialReliefRequest"],
        items: &[
            m(
                "original case and court",
                &["JudicialReliefRequest.original_case", "ReliefCase.court", "ReliefCase.case_number"],
            ),
            m("stage", &["JudicialReliefRequest.stage"]),
            m(
                "applicant, relation to the victim",
                &["JudicialReliefRequest.applicant", "JudicialReliefRequest.relation_to_victim"],
            ),
            m("ground", &["JudicialReliefRequest.ground"]),
            m(
                "real loss, compensation so far, sum asked",
                &[
                    "JudicialReliefRequest.real_loss_fen",
                    "JudicialReliefRequest.compensation_fen",
                    "JudicialReliefRequest.sum_asked_fen",
                ],
            ),
            m(
                "household: members, workers, per-capita income",
                &[
                    "JudicialReliefRequest.household",
                    "ReliefHousehold.members",
                    "ReliefHousehold.workers",
                    "ReliefHousehold.income_per_head_fen",
                ],
            ),
            m("prior-relief declaration", &["JudicialReliefRequest.prior_relief", "PriorRelief.received"]),
            c("enforcement-termination reference", &["JudicialReliefRequest.enforcement_termination"]),
            c("undertaking", &["JudicialReliefRequest.undertaking"]),
        ],
    },
    Form {
        title: "Judicial relief decision",
        messages: &["JudicialReliefDecision"],
        items: &[
            c("granted sum", &["JudicialReliefDecision.granted_fen"]),
            c("basis year of the wage", &["JudicialReliefDecision.wage_basis_year"]),
            m("document number", &["JudicialReliefDecision.document_number"]),
            o("paid on", &["JudicialReliefDecision.paid_on"]),
            c("refusal reasons", &["JudicialReliefDecision.reasons"]),
        ],
    },
    Form {
        title: "Appeal referral",
        messages: &["AppealReferral"],
        items: &[
            m("direction", &["AppealReferral.direction"]),
            m("track", &["AppealReferral.track"]),
            m("applicant, other parties", &["AppealReferral.applicant", "AppealReferral.other_parties"]),
            c("all effective documents", &["AppealReferral.documents"]),
            c(
                "retrial application: filed, result, ruling date",
                &[
                    "AppealReferral.retrial_application",
                    "RetrialApplication.result",
                    "RetrialApplication.ruled_on",
                ],
            ),
            m("whether applied before", &["AppealReferral.applied_before"]),
            m("claims, facts and reasons", &["AppealReferral.claims", "AppealReferral.facts_and_reasons"]),
            c("evidence list", &["AppealReferral.evidence"]),
            o("aid decision, lawyer", &["AppealReferral.aid_decision", "AppealReferral.lawyer"]),
        ],
    },
    Form {
        title: "Outcome of an appeal referral",
        messages: &["AppealOutcome"],
        items: &[
            m("result", &["AppealOutcome.result"]),
            m("document number and date", &["AppealOutcome.document_number", "AppealOutcome.decided_on"]),
            c("reasons", &["AppealOutcome.reasons"]),
            c("transferred to", &["AppealOutcome.transferred_to"]),
        ],
    },
    Form {
        title: "Poverty-household query",
        messages: &["PovertyHouseholdQuery"],
        items: &[
            m("subject", &["PovertyHouseholdQuery.subject"]),
            m("household scope", &["PovertyHouseholdQuery.household_scope"]),
            o("village code", &["PovertyHouseholdQuery.village_code"]),
            m("as-of date", &["PovertyHouseholdQuery.as_of"]),
            m("authority", &["PovertyHouseholdQuery.authority"]),
        ],
    },
    Form {
        title: "Poverty-household answer",
        messages: &["PovertyHouseholdAnswer"],
        items: &[
            m("result", &["PovertyHouseholdAnswer.result"]),
            c("kind, risk", &["PovertyHouseholdAnswer.kind", "PovertyHouseholdAnswer.risk"]),
            c(
                "identified on, removed on",
                &["PovertyHouseholdAnswer.identified_on", "PovertyHouseholdAnswer.removed_on"],
            ),
            c("village code", &["PovertyHouseholdAnswer.village_code"]),
            o("household size", &["PovertyHouseholdAnswer.household_size"]),
            m(
                "data as of, valid until",
                &["PovertyHouseholdAnswer.data_as_of", "PovertyHouseholdAnswer.valid_until"],
            ),
            m("source", &["PovertyHouseholdAnswer.source"]),
            c("reason", &["PovertyHouseholdAnswer.reason"]),
        ],
    },
    Form {
        title: "Counsel notice",
        messages: &["CounselNotice"],
        items: &[
            m("organ", &["Envelope.sender"]),
            m("ground: 25(1) items, 28", &["CounselNotice.ground"]),
            m("suspect", &["CounselNotice.suspect", "Suspect.name", "Suspect.id_kind", "Suspect.id_number"]),
            m("charge, stage", &["CounselNotice.charge", "CounselNotice.stage"]),
            c("custody place", &["CounselNotice.custody_place"]),
            o("next hearing", &["CounselNotice.next_hearing_on"]),
            m("found at", &["CounselNotice.found_at"]),
        ],
    },
    Form {
        title: "Counsel assignment",
        messages: &["CounselAssignment"],
        items: &[m(
            "assigned: firm, lawyer, licence",
            &["CounselAssignment.firm", "CounselAssignment.lawyer_name", "CounselAssignment.licence_number"],
        )],
    },
    Form {
        title: "Direct-assignment report",
        messages: &["DirectAssignmentReport", "DirectAssignmentAcknowledgement"],
        items: &[
            m("court", &["Envelope.sender"]),
            m(
                "firm, lawyer, date, reason",
                &[
                    "DirectAssignmentReport.firm",
                    "DirectAssignmentReport.lawyer_name",
                    "DirectAssignmentReport.assigned_on",
                    "DirectAssignmentReport.reason",
                ],
            ),
        ],
    },
    Form {
        title: "Cooperation request",
        messages: &["CooperationRequest"],
        items: &[
            m("task: take application, investigate, serve, interview", &["CooperationRequest.task"]),
            m("from, to", &["Envelope.sender", "Envelope.recipient"]),
            m("content, due", &["CooperationRequest.content", "CooperationRequest.due_on"]),
        ],
    },
    Form {
        title: "Cooperation result",
        messages: &["CooperationResult"],
        items: &[m("result", &["CooperationResult.outcome", "CooperationResult.account"])],
    },
];

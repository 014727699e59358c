//! Asking a register about a household.

use jiff::civil::Date;

use super::law::Article;
use super::person::{IdDocument, PersonName};
use super::region::RegionCode;
use super::vocabulary::vocabulary;

/// A question to a register (法律援助法 art 41): what is common to all of them.
#[derive(Clone, Debug)]
pub struct HouseholdQuery {
    /// The person asked about.
    pub subject: Subject,
    /// The day for which the answer is wanted.
    pub as_of: Date,
}

/// The person asked about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name.
    pub name: PersonName,
    /// Document.
    pub id: IdDocument,
    /// Where the household is registered; routes the question.
    pub household_region: RegionCode,
}

vocabulary! {
    /// Where a verification that is completed later stands.
    pub enum VerificationState {
        /// The gateway goes on asking.
        Pending => "PENDING",
        /// The register has answered.
        Answered => "ANSWERED",
        /// It did not answer in time, or may no longer be asked.
        GivenUp => "GIVEN_UP",
    }
}

vocabulary! {
    /// Why a register gave no usable answer.
    pub enum NoAnswer {
        /// It could not be reached, or did not answer in time.
        RegistryUnreachable => "REGISTRY_UNREACHABLE",
        /// It was not asked: it has failed, and is left alone for a while.
        CircuitOpen => "REGISTRY_CIRCUIT_OPEN",
        /// It was not asked: too many questions are with it already, of this caller or in all.
        TooManyQuestions => "REGISTRY_QUESTIONS_EXCEEDED",
        /// It answered with an error.
        RegistryError => "REGISTRY_ERROR",
        /// Its answer does not fit the question's form.
        RegistryAnswerMalformed => "REGISTRY_ANSWER_MALFORMED",
        /// Its answer is about another person.
        SubjectMismatch => "SUBJECT_MISMATCH",
    }
}

vocabulary! {
    /// What a register's answer may tell beside its result, as an agreement names it: the paths of its fields in the contract.
    pub enum AnswerField {
        /// How the household stands in each programme asked about.
        Programmes => "programmes",
        /// Number of a programme's certificate.
        CertificateNumber => "programmes.certificate_number",
        /// From when a certificate is valid.
        CertificateFrom => "programmes.valid_from",
        /// Until when.
        CertificateTo => "programmes.valid_to",
        /// The organ that granted a programme.
        Organ => "programmes.organ",
        /// Members of the household.
        HouseholdSize => "household_size",
        /// Income as a band against the line, with the line.
        IncomeBand => "income_band",
        /// As what the household is registered.
        Kind => "kind",
        /// Whether the risk of falling back stands.
        Risk => "risk",
        /// When the household was identified.
        IdentifiedOn => "identified_on",
        /// When the risk was removed.
        RemovedOn => "removed_on",
        /// The household's village.
        VillageCode => "village_code",
    }
}

/// What the centre may do next.
#[derive(Clone, Copy, Debug)]
pub struct NextStep {
    /// Code in UPPER_SNAKE.
    pub code: &'static str,
    /// In English.
    pub text: &'static str,
    /// In Chinese.
    pub text_zh: &'static str,
    /// The article that allows it.
    pub article: Article,
}

const UNDERTAKING: NextStep = NextStep {
    code: "ACCEPT_PERSONAL_UNDERTAKING",
    text: "check hardship by the applicant's personal undertaking instead",
    text_zh: "可改由申请人作出个人诚信承诺核查经济困难状况",
    article: Article::legal_aid_law("41"),
};

const AID_FIRST: NextStep = NextStep {
    code: "AID_FIRST_PAPERS_LATER",
    text: "where the matter is urgent, give aid first and let the papers follow",
    text_zh: "情形紧急的，可先行提供法律援助，事后补办手续",
    article: Article::legal_aid_law("44"),
};

const ASK_AGAIN: NextStep = NextStep {
    code: "ASK_AGAIN",
    text: "ask again later with a new request id; the decision is due 7 days after receipt",
    text_zh: "稍后以新的请求编号重新查询；自收到申请之日起七日内作出决定",
    article: Article::legal_aid_law("43"),
};

const COMPARE_BY_HAND: NextStep = NextStep {
    code: "COMPARE_BY_HAND",
    text: "compare the papers by hand: the register's answer does not fit one person, the one asked about",
    text_zh: "请人工核对材料：登记系统的答复不能唯一对应查询对象",
    article: Article::legal_aid_law("41"),
};

/// What the centre may do when the register cannot be asked. None of these steps, nor of the others here, refuses
/// aid: a machine may grant, only a person refuses.
pub const STEPS_WHEN_UNAVAILABLE: &[NextStep] = &[ASK_AGAIN, UNDERTAKING, AID_FIRST];

/// What the centre may do when the answer does not fit the person asked about.
pub const STEPS_WHEN_AMBIGUOUS: &[NextStep] = &[COMPARE_BY_HAND, UNDERTAKING, AID_FIRST];

/// What the centre may do when the household is not on the register, or the register declines.
pub const STEPS_WHEN_NOT_FOUND: &[NextStep] = &[UNDERTAKING, AID_FIRST];

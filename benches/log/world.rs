//! The agencies, people and calls of three synthetic years, drawn from a seed.

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use legal_aid_gateway::audit::entry::{
    AgreementReference, Commitment, Decision, Entry, Phase, PseudonymKey, Salt,
};
use legal_aid_gateway::domain::agency::CreditCode;
use uuid::Uuid;

const VERIFICATION: &str = "legalaid.exchange.v1.VerificationService";
const EXCHANGE: &str = "legalaid.exchange.v1.ExchangeService";
const INBOX: &str = "legalaid.exchange.v1.InboxService";
const AUDIT: &str = "legalaid.exchange.v1.AuditService";
const GATEWAY: &str = "legalaid.exchange.v1.Gateway";

const CENTRES: u64 = 2_600;
const COURTS: u64 = 1_100;
const REGISTRIES: u64 = 62;
const AUDITORS: u64 = 20;

/// Monday, 6 November 2023, midnight in Shanghai.
const BEGIN: i64 = 1_699_200_000;
const WEEKS: f64 = 156.0;

/// Chance that can be repeated: SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.roll() % count.max(1)
    }

    /// One of `0..count`, the low ones far more often: number `n` about as often as `1 / sqrt(n)`.
    fn skewed(&mut self, count: u64) -> u64 {
        let part = self.part();
        ((part * part * count as f64) as u64).min(count.saturating_sub(1))
    }

    fn part(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.roll().to_le_bytes()[..piece.len()]);
        }
        bytes
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    fn commitment(&mut self) -> Option<Commitment> {
        Some(Commitment(HEXLOWER.encode(&self.bytes::<32>())))
    }
}

struct Agency {
    code: String,
    certificate: String,
}

/// One call: the entry that opens it, and the one that ends it where there are two.
pub(crate) struct Call {
    pub(crate) opening: Entry,
    /// Lacks the index of its REQUEST.
    pub(crate) end: Option<Entry>,
}

/// Composes calls in the order of their time.
pub(crate) struct World {
    dice: Dice,
    centres: Vec<Agency>,
    courts: Vec<Agency>,
    registries: Vec<Agency>,
    auditors: Vec<Agency>,
    pseudonyms: PseudonymKey,
    people: u64,
    exchanges: u64,
}

impl World {
    /// The world behind about `entries` entries: more of them are about more people.
    pub(crate) fn new(entries: u64, seed: u64) -> Result<Self> {
        let mut dice = Dice::new(seed);
        let pseudonyms = PseudonymKey::new(dice.bytes());
        Ok(Self {
            centres: agencies("12", CENTRES, &mut dice)?,
            courts: agencies("11", COURTS, &mut dice)?,
            registries: agencies("11", REGISTRIES, &mut dice)?,
            auditors: agencies("11", AUDITORS, &mut dice)?,
            dice,
            pseudonyms,
            people: entries / 6 + 1,
            exchanges: entries / 20 + 1,
        })
    }

    /// A secret for an entry's commitments.
    pub(crate) fn salt(&mut self) -> Salt {
        Salt(self.dice.bytes())
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.dice.below(count)
    }

    /// A call at this part (0 to 1) of the three years.
    pub(crate) fn call(&mut self, part: f64) -> Call {
        let at = moment(part);
        match self.dice.below(1_000) {
            0..400 => self.verification(at),
            400..500 => self.submission(at),
            500..600 => self.delivery(at),
            600..700 => self.court_response(at),
            700..945 => self.single(at),
            945..990 => self.refusal(at),
            990..997 => self.audit(at),
            997 => self.handshake(at),
            _ => self.event(at),
        }
    }

    /// A call with one entry.
    pub(crate) fn read(&mut self, part: f64) -> Call {
        self.single(moment(part))
    }

    fn single(&mut self, at: Timestamp) -> Call {
        let mut entry = if self.dice.below(3) == 0 {
            self.entry(Phase::Read, at, EXCHANGE, "ListExchanges")
        } else {
            let mut entry = self.entry(Phase::Read, at, EXCHANGE, "GetExchange");
            entry.exchange = Some(self.exchange());
            entry
        };
        self.name_centre(&mut entry, "FEE_WAIVER");
        self.read_without_fault(&mut entry);
        Call { opening: entry, end: None }
    }

    fn verification(&mut self, at: Timestamp) -> Call {
        let is_poverty = self.dice.below(4) == 0;
        let method = if is_poverty { "VerifyPovertyHousehold" } else { "VerifyLowIncome" };
        let mut entry = self.entry(Phase::Request, at, VERIFICATION, method);
        self.name_centre(&mut entry, "AID_ELIGIBILITY");
        let registry = self.dice.skewed(REGISTRIES) as usize;
        entry.counterpart = Some(self.registries[registry].code.clone());
        entry.subject = Some(self.person());
        entry.legal_basis = vec!["法律援助法 41".to_owned()];
        let end = match self.dice.below(50) {
            0 => self.end(&entry, Some("REGISTRY_UNAVAILABLE")),
            1 => self.end(&entry, Some("NO_MATCH")),
            _ => self.end(&entry, None),
        };
        Call { opening: entry, end: Some(end) }
    }

    fn submission(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::Request, at, EXCHANGE, "SubmitExchange");
        self.name_centre(&mut entry, "FEE_WAIVER");
        let court = self.dice.skewed(COURTS) as usize;
        entry.counterpart = Some(self.courts[court].code.clone());
        entry.subject = Some(self.person());
        entry.legal_basis = vec!["法律援助法 53".to_owned()];
        let mut end = self.end(&entry, None);
        end.exchange = Some(self.exchange());
        Call { opening: entry, end: Some(end) }
    }

    fn delivery(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::Request, at, INBOX, "Deliver");
        let court = self.dice.skewed(COURTS) as usize;
        entry.counterpart = Some(self.courts[court].code.clone());
        entry.exchange = Some(self.exchange());
        entry.delivery = Some(self.dice.uuid());
        let end = self.end(&entry, None);
        Call { opening: entry, end: Some(end) }
    }

    fn court_response(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::Request, at, EXCHANGE, "RespondToExchange");
        let court = self.dice.skewed(COURTS);
        self.name_agency(&mut entry, 'C', court, "FEE_WAIVER");
        let centre = self.dice.skewed(CENTRES) as usize;
        entry.counterpart = Some(self.centres[centre].code.clone());
        entry.exchange = Some(self.exchange());
        let end = self.end(&entry, None);
        Call { opening: entry, end: Some(end) }
    }

    fn refusal(&mut self, at: Timestamp) -> Call {
        const REASONS: [(&str, &str); 5] = [
            ("PERMISSION_DENIED", "NO_AGREEMENT"),
            ("PERMISSION_DENIED", "PURPOSE_NOT_AGREED"),
            ("INVALID_ARGUMENT", "INVALID_REQUEST"),
            ("NOT_FOUND", "NOT_FOUND"),
            ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS"),
        ];
        let (code, reason) = REASONS[self.dice.skewed(REASONS.len() as u64) as usize];
        let mut entry = self.entry(Phase::Refused, at, VERIFICATION, "VerifyLowIncome");
        self.name_centre(&mut entry, "AID_ELIGIBILITY");
        entry.subject = Some(self.person());
        entry.agreement = None;
        entry.decision = (code == "PERMISSION_DENIED").then_some(Decision::Deny);
        entry.code = Some(code.into());
        entry.reason = Some(reason.into());
        entry.duration_us = Some(200 + self.dice.below(2_000));
        Call { opening: entry, end: None }
    }

    fn audit(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::Read, at, AUDIT, "ListEntries");
        let auditor = self.dice.skewed(AUDITORS);
        self.name_agency(&mut entry, 'A', auditor, "AUDIT_INSPECTION");
        self.read_without_fault(&mut entry);
        Call { opening: entry, end: None }
    }

    fn handshake(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::HandshakeRefused, at, GATEWAY, "Connect");
        entry.certificate = Some(HEXLOWER.encode(&self.dice.bytes::<32>()));
        entry.reason = Some("NOT_ENROLLED".into());
        Call { opening: entry, end: None }
    }

    fn event(&mut self, at: Timestamp) -> Call {
        let mut entry = self.entry(Phase::Event, at, GATEWAY, "Overdue");
        entry.exchange = Some(self.exchange());
        entry.reason = Some("OVERDUE".into());
        Call { opening: entry, end: None }
    }

    fn entry(&mut self, phase: Phase, at: Timestamp, service: &'static str, method: &'static str) -> Entry {
        let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &self.dice.bytes()).into_uuid();
        let mut entry = Entry::new(id, phase, at, service, method, "node-1");
        entry.trace = Some(HEXLOWER.encode(&self.dice.bytes::<16>()));
        entry
    }

    fn name_centre(&mut self, entry: &mut Entry, purpose: &str) {
        let number = self.dice.skewed(CENTRES);
        self.name_agency(entry, 'L', number, purpose);
        // Most matters are asked about a few times.
        let (year, matter) = (entry.occurred.to_string()[..4].to_owned(), self.dice.below(self.people / 2));
        entry.matter = Some(format!("LQ-{year}-{matter:07}"));
    }

    fn name_agency(&mut self, entry: &mut Entry, kind: char, number: u64, purpose: &str) {
        let agencies = match kind {
            'L' => &self.centres,
            'C' => &self.courts,
            _ => &self.auditors,
        };
        let agency = &agencies[number as usize];
        entry.caller = Some(agency.code.clone());
        entry.certificate = Some(agency.certificate.clone());
        let operator = self.dice.skewed(4 + number % 17);
        entry.unit = Some(format!("U{:02}", operator % 5));
        entry.operator = Some(format!("{kind}{number:04}{operator:02}"));
        entry.operator_name = self.dice.commitment();
        entry.purpose = Some(purpose.to_owned());
        let version = (1 + number % 3).to_string();
        entry.agreement = Some(AgreementReference { id: format!("A-{kind}{number:04}"), version });
        entry.decision = Some(Decision::Allow);
        entry.request = Some(self.dice.uuid());
        entry.request_commitment = self.dice.commitment();
    }

    fn read_without_fault(&mut self, entry: &mut Entry) {
        entry.code = Some("OK".into());
        entry.response_commitment = self.dice.commitment();
        entry.duration_us = Some(300 + self.dice.below(3_000));
    }

    /// The end of a call, which repeats what names it. One in some thousands is lost with the gateway.
    fn end(&mut self, opening: &Entry, reason: Option<&'static str>) -> Entry {
        let is_lost = self.dice.below(4_000) == 0;
        let mut end =
            self.entry(Phase::Response, opening.occurred, "legalaid.exchange.v1.VerificationService", "");
        end.service.clone_from(&opening.service);
        end.method.clone_from(&opening.method);
        end.caller.clone_from(&opening.caller);
        end.counterpart.clone_from(&opening.counterpart);
        end.request = opening.request;
        end.exchange = opening.exchange;
        end.delivery = opening.delivery;
        end.trace.clone_from(&opening.trace);
        if is_lost {
            end.phase = Phase::Interrupted;
            end.reason = Some("INTERRUPTED".into());
        } else {
            self.read_without_fault(&mut end);
            end.reason = reason.map(Into::into);
        }
        end
    }

    fn person(&mut self) -> String {
        let number = self.dice.skewed(self.people);
        self.pseudonyms.pseudonym("RESIDENT_ID", &resident_id(number))
    }

    fn exchange(&mut self) -> Uuid {
        let number = self.dice.skewed(self.exchanges);
        uuid::Builder::from_random_bytes(Dice::new(number).bytes()).into_uuid()
    }
}

/// Weeks of mostly working days, days of mostly working hours (Shanghai).
fn moment(part: f64) -> Timestamp {
    const DAY: f64 = 86_400.0;
    const OF_WEEK: [f64; 7] = [0.19, 0.19, 0.19, 0.19, 0.19, 0.03, 0.02];
    // Share of the day's calls, and the hours they come in.
    const OF_DAY: [(f64, f64); 5] = [(0.02, 8.5), (0.48, 3.5), (0.06, 1.5), (0.41, 4.0), (0.03, 6.5)];
    let weeks = part.clamp(0.0, 1.0) * WEEKS;
    let (day, rest) = piece(weeks.fract(), OF_WEEK.map(|share| (share, 1.0)));
    let (hours, rest) = piece(rest, OF_DAY);
    let seconds = (weeks.floor() * 7.0 + day) * DAY + (hours + rest) * 3_600.0;
    let begin = Timestamp::from_second(BEGIN).unwrap_or(Timestamp::UNIX_EPOCH);
    begin.checked_add(SignedDuration::from_micros((seconds * 1e6) as i64)).unwrap_or(begin)
}

/// Where a part of all falls among pieces of a share and a length: the length before its piece, and how far into it.
fn piece<const N: usize>(mut part: f64, pieces: [(f64, f64); N]) -> (f64, f64) {
    let mut before = 0.0;
    for (share, length) in pieces {
        if part < share {
            return (before, part / share * length);
        }
        part -= share;
        before += length;
    }
    (before, 0.0)
}

/// Agencies of this registration authority, with valid check characters.
fn agencies(authority: &str, count: u64, dice: &mut Dice) -> Result<Vec<Agency>> {
    const CHARACTERS: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
    (0..count)
        .map(|number| {
            let body = dice.below(100_000);
            let stem = format!("{authority}33{:04}MB{:02}{body:05}", number % 10_000, number % 100);
            let code = CHARACTERS.chars().map(|check| format!("{stem}{check}"));
            let mut valid = code.filter(|code| CreditCode::parse(code).is_ok());
            let code = valid.next().with_context(|| format!("{stem} has no check character"))?;
            Ok(Agency { code, certificate: HEXLOWER.encode(&dice.bytes::<32>()) })
        })
        .collect()
}

/// The resident ID number of a synthetic person, with its check digit (GB 11643).
fn resident_id(person: u64) -> String {
    let (year, month, day) = (1940 + person % 65, 1 + person / 65 % 12, 1 + person / 780 % 28);
    let digits = format!("331004{year:04}{month:02}{day:02}{:03}", person / 21_840 % 1_000);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = digits.bytes().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    format!("{digits}{}", char::from(b"10X98765432"[(sum % 11) as usize]))
}

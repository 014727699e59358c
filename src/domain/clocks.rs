//! The clocks of the law: which time limit runs, from when to when, by which article. All of it is data, dated and by
//! region; here it is read, checked and applied.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use thiserror::Error;

use super::calendar::{Calendar, CalendarError, Due, Period, Unit, legal_day};
use super::exchange::{ExchangeState, Kind, ResponseKind};
use super::law::LegalBasis;
use super::region::RegionCode;
use super::vocabulary::vocabulary;

/// The clocks that come with the program.
const BUILT_IN: &str = include_str!("../../data/clocks.toml");

/// How a rule says that its end is set by a party.
const SET_IN_REQUEST: &str = "set-in-request";

vocabulary! {
    /// What a clock belongs to: a kind of exchange, or an event outside exchanges.
    pub enum Occasion {
        /// Every kind of exchange.
        Any => "ANY",
        /// A fee-waiver request.
        FeeWaiver => "FEE_WAIVER",
        /// A request for judicial relief.
        JudicialRelief => "JUDICIAL_RELIEF",
        /// A referral between centre and procuratorate.
        AppealReferral => "APPEAL_REFERRAL",
        /// An organ's notice that counsel is needed.
        CounselNotice => "COUNSEL_NOTICE",
        /// A court's report of a lawyer whom it assigned itself.
        DirectAssignmentReport => "DIRECT_ASSIGNMENT_REPORT",
        /// A centre's request to another.
        CooperationRequest => "COOPERATION_REQUEST",
        /// Somebody applies to a centre.
        AidApplication => "AID_APPLICATION",
        /// The centre decided on an application.
        AidDecision => "AID_DECISION",
        /// A detained person applies through the organ.
        DetainedApplication => "DETAINED_APPLICATION",
        /// A court asks for the fee.
        FeePaymentNotice => "FEE_PAYMENT_NOTICE",
    }
}

vocabulary! {
    /// How far a rule's figure was verified.
    pub enum SourceMark {
        /// Read in the primary text.
        PrimaryText => "C",
        /// Seen in a secondary source.
        Secondary => "C2",
        /// From memory.
        Unverified => "M",
    }
}

impl Occasion {
    /// Whether it is an event outside exchanges.
    const fn is_event(self) -> bool {
        matches!(
            self,
            Self::AidApplication | Self::AidDecision | Self::DetainedApplication | Self::FeePaymentNotice
        )
    }

    /// Whether it takes in a kind of exchange. Kinds and occasions share their words.
    fn covers(self, kind: Kind) -> bool {
        self == Self::Any || self.as_str() == kind.as_str()
    }
}

impl SourceMark {
    /// The mark with this stored word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mark| mark.as_str() == name)
    }
}

/// A rule for one clock, in one region, in force for some time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: String,
    on: Occasion,
    track: Option<String>,
    region: Option<RegionCode>,
    #[serde(default)]
    starts: Vec<ExchangeState>,
    #[serde(default)]
    stops: Vec<ExchangeState>,
    #[serde(default)]
    stops_with: Vec<ResponseKind>,
    length: Option<u16>,
    unit: String,
    #[serde(default)]
    lapse: Vec<Kind>,
    articles: Vec<String>,
    source: SourceMark,
    from: Date,
    until: Option<Date>,
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    replaces_all: bool,
    #[serde(default)]
    clock: Vec<Rule>,
}

/// Why a file of clocks cannot be used.
#[derive(Debug, Error)]
pub enum ClocksError {
    /// Not TOML of this shape: an unknown word, an unknown region, a missing source.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// A rule that cannot be.
    #[error("clock {id}: {problem}")]
    Rule {
        /// The clock.
        id: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two rules for one clock and region at one time.
    #[error("clock {id}: two rules for {region} are in force on {day}")]
    Overlap {
        /// The clock.
        id: String,
        /// The region, or `the nation`.
        region: String,
        /// The first such day.
        day: Date,
    },
    /// The holiday file.
    #[error("holidays: {0}")]
    Calendar(#[from] CalendarError),
}

/// Every clock, and the calendar that they are counted by. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    rules: Vec<Rule>,
    calendar: Calendar,
}

/// What of an exchange decides which clocks run.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its track, where the kind has some.
    pub track: Option<&'a str>,
    /// Where it is handled.
    pub region: RegionCode,
}

/// A clock that an event starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedClock {
    /// Names the clock, in UPPER_SNAKE.
    pub id: String,
    /// The articles of law, such as `法律援助法 43`; none where the text is not known.
    pub articles: Vec<String>,
    /// How far the figure was verified.
    pub source: SourceMark,
    /// When it ends.
    pub due: Due,
}

impl Clocks {
    /// The clocks and holidays that come with the program.
    ///
    /// # Errors
    /// Never in a tested build.
    pub fn built_in() -> Result<Self, ClocksError> {
        Self::load(None, None)
    }

    /// The built-in clocks and holidays, with the operator's own. The operator's rules for a clock and region take
    /// the place of the built-in ones for both; with `replaces_all = true`, of all. Holidays are replaced as a whole.
    ///
    /// # Errors
    /// When a file contradicts itself.
    pub fn load(rules: Option<&str>, holidays: Option<&str>) -> Result<Self, ClocksError> {
        let calendar = holidays.map_or_else(Calendar::built_in, Calendar::parse)?;
        let mut file: File = toml::from_str(BUILT_IN)?;
        if let Some(text) = rules {
            let own: File = toml::from_str(text)?;
            file.clock.retain(|rule| {
                let replaced =
                    own.clock.iter().any(|other| (&other.id, other.region) == (&rule.id, rule.region));
                !own.replaces_all && !replaced
            });
            file.clock.extend(own.clock);
        }
        for (place, rule) in file.clock.iter().enumerate() {
            rule.check().map_err(|problem| ClocksError::Rule { id: rule.id.clone(), problem })?;
            for other in file.clock[..place].iter().filter(|other| other.id == rule.id) {
                rule.check_beside(other)?;
            }
        }
        Ok(Self { rules: file.clock, calendar })
    }

    /// The calendar.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The clocks that an exchange starts when it enters `state`. `set` is the last day that the message which led
    /// there sets, if it does; a clock that needs one does not start without.
    pub fn started_by(
        &self,
        exchange: &Running<'_>,
        state: ExchangeState,
        at: Timestamp,
        set: Option<Date>,
    ) -> Vec<StartedClock> {
        let fits = |rule: &Rule| {
            rule.on.covers(exchange.kind)
                && rule.starts.contains(&state)
                && rule.track.as_deref().is_none_or(|track| exchange.track == Some(track))
        };
        self.in_force(exchange.region, legal_day(at), fits)
            .filter_map(|rule| {
                let due = match rule.period() {
                    Some(period) => self.calendar.end_of(at, period),
                    None => self.calendar.end_on(set?),
                };
                Some(rule.started(due))
            })
            .collect()
    }

    /// The clocks that an event outside exchanges starts in a region.
    pub fn started_by_event(&self, on: Occasion, region: RegionCode, at: Timestamp) -> Vec<StartedClock> {
        self.in_force(region, legal_day(at), |rule| rule.on == on && on.is_event())
            .filter_map(|rule| Some(rule.started(self.calendar.end_of(at, rule.period()?))))
            .collect()
    }

    /// Whether a clock that runs stops when its exchange enters a state, or gets an answer. One that no rule knows
    /// any more stops with the exchange.
    pub fn stops(&self, id: &str, entered: Option<ExchangeState>, by: Option<ResponseKind>) -> bool {
        // Rules of one clock agree on this.
        let rule = self.rules.iter().find(|rule| rule.id == id);
        entered.is_some_and(ExchangeState::is_final)
            || rule.is_some_and(|rule| {
                entered.is_some_and(|state| rule.stops.contains(&state))
                    || by.is_some_and(|answer| rule.stops_with.contains(&answer))
            })
    }

    /// Whether an exchange of this kind is deemed withdrawn when this clock ends.
    pub fn lapses(&self, id: &str, kind: Kind) -> bool {
        self.rules.iter().any(|rule| rule.id == id && rule.lapse.contains(&kind))
    }

    /// Whether this clock waits for the exchange's sender: for papers that were asked for.
    pub fn waits_for_sender(&self, id: &str) -> bool {
        self.rules.iter().any(|rule| rule.id == id && rule.starts == [ExchangeState::SupplementRequested])
    }

    /// Of each clock, the rule of the smallest region in force on `day`.
    fn in_force(
        &self,
        region: RegionCode,
        day: Date,
        fits: impl Fn(&Rule) -> bool,
    ) -> impl Iterator<Item = &Rule> {
        let holds = move |rule: &&Rule| {
            let here = rule.region.is_none_or(|outer| region.is_within(outer));
            here && rule.from <= day && rule.until.is_none_or(|until| day <= until) && fits(rule)
        };
        let rules: Vec<&Rule> = self.rules.iter().filter(holds).collect();
        let smallest = |rule: &&Rule| {
            !rules.iter().any(|other| other.id == rule.id && other.is_in_a_part_of(rule.region))
        };
        rules.iter().copied().filter(smallest).collect::<Vec<_>>().into_iter()
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        let is_word = |word: &str| {
            (3..=64).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        if !is_word(&self.id) || self.track.as_deref().is_some_and(|track| !is_word(track)) {
            return Err("id and track are words of A to Z and _");
        }
        if self.until.is_some_and(|until| until < self.from) {
            return Err("until lies before from");
        }
        if self.note.trim().is_empty() {
            return Err("a note must say what it is");
        }
        let readable = |text: &String| {
            text.rsplit_once(' ').is_some_and(|(law, article)| LegalBasis::parse(law, article).is_ok())
        };
        if !self.articles.iter().all(readable) {
            return Err("an article is a law and a number, such as 法律援助法 43");
        }
        if self.source == SourceMark::PrimaryText && self.articles.is_empty() {
            return Err("source C names the article that was read");
        }
        let is_set = self.unit == SET_IN_REQUEST;
        if is_set != self.length.is_none() || (!is_set && self.period().is_none()) {
            return Err(
                "a length of 1 to 3650 days, working-days, hours or months, or set-in-request and none",
            );
        }
        if self.on.is_event() {
            let (states, answers) = ([&self.starts, &self.stops], &self.stops_with);
            let plain =
                states.iter().all(|states| states.is_empty()) && answers.is_empty() && self.track.is_none();
            return if plain && self.lapse.is_empty() && !is_set {
                Ok(())
            } else {
                Err("an event outside exchanges has no states, no track and a length")
            };
        }
        if self.starts.is_empty() || self.starts.iter().any(|state| self.stops.contains(state)) {
            return Err("a clock starts in some state, and does not stop in the same");
        }
        if !self.lapse.is_empty() && self.starts != [ExchangeState::SupplementRequested] {
            return Err("only a clock that starts with SUPPLEMENT_REQUESTED can lapse");
        }
        if !self.lapse.iter().all(|kind| self.on.covers(*kind)) {
            return Err("a clock lapses for kinds that it runs in");
        }
        Ok(())
    }

    /// Rules of one clock differ in region, time and length, not in what they are about.
    fn check_beside(&self, other: &Self) -> Result<(), ClocksError> {
        let about = |rule: &Self| {
            let Self { on, track, starts, stops, stops_with, lapse, .. } = rule.clone();
            (on, track, starts, stops, stops_with, lapse)
        };
        if about(self) != about(other) {
            let problem = "its rules differ in on, track, starts, stops, stops_with or lapse";
            return Err(ClocksError::Rule { id: self.id.clone(), problem });
        }
        let day = self.from.max(other.from);
        let in_force = |rule: &Self| rule.until.is_none_or(|until| day <= until);
        if self.region == other.region && in_force(self) && in_force(other) {
            let region = self.region.map_or_else(|| "the nation".to_owned(), |region| region.to_string());
            return Err(ClocksError::Overlap { id: self.id.clone(), region, day });
        }
        Ok(())
    }

    fn period(&self) -> Option<Period> {
        let unit = Unit::ALL.iter().find(|unit| unit.as_str() == self.unit)?;
        Period::new(self.length?, *unit)
    }

    /// Whether its region lies below `outer`, where nothing stands for the nation.
    fn is_in_a_part_of(&self, outer: Option<RegionCode>) -> bool {
        self.region != outer
            && self.region.is_some_and(|region| outer.is_none_or(|outer| region.is_within(outer)))
    }

    fn started(&self, due: Due) -> StartedClock {
        StartedClock { id: self.id.clone(), articles: self.articles.clone(), source: self.source, due }
    }
}

#[cfg(test)]
mod tests;

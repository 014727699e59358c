//! `[findings]`: what the rules over the audit log speak of.

use jiff::SignedDuration;
use jiff::civil::Time;
use serde::{Deserialize, Serialize};

use crate::domain::findings::{OfficeHours, Rule, RuleSettings, Settings, Window};

/// `[findings]`, read into the rules' settings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct FindingsSection {
    /// How the rules are set.
    pub settings: Settings,
}

impl Default for FindingsSection {
    fn default() -> Self {
        Self { settings: Settings::standard() }
    }
}

/// As it is written; what is left out is standard.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    office_from: Option<Time>,
    office_until: Option<Time>,
    look_back_days: Option<u16>,
    traffic: Option<u64>,
    bulk_look_ups: WrittenRule,
    out_of_hours: WrittenRule,
    no_matter: WrittenRule,
    matter_closed: WrittenRule,
    subject_asked_by_many: WrittenRule,
    denial_burst: WrittenRule,
    interrupted: WrittenRule,
    clock_backwards: WrittenRule,
    silence: WrittenRule,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenRule {
    on: Option<bool>,
    threshold: Option<u64>,
    window: Option<SignedDuration>,
}

impl TryFrom<Written> for FindingsSection {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut settings = Settings::standard();
        let OfficeHours { from, until } = settings.office;
        let office = OfficeHours {
            from: written.office_from.unwrap_or(from),
            until: written.office_until.unwrap_or(until),
        };
        if office.from >= office.until {
            return Err("findings.office_from must be earlier than findings.office_until".to_owned());
        }
        settings.office = office;
        settings.look_back_days = written.look_back_days.unwrap_or(settings.look_back_days);
        settings.traffic = written.traffic.unwrap_or(settings.traffic).max(1);
        let rules = [
            (Rule::BulkLookUps, written.bulk_look_ups),
            (Rule::OutOfHours, written.out_of_hours),
            (Rule::NoMatter, written.no_matter),
            (Rule::MatterClosed, written.matter_closed),
            (Rule::SubjectAskedByMany, written.subject_asked_by_many),
            (Rule::DenialBurst, written.denial_burst),
            (Rule::Interrupted, written.interrupted),
            (Rule::ClockBackwards, written.clock_backwards),
            (Rule::Silence, written.silence),
        ];
        for (rule, written) in rules {
            settings.set(rule, written.over(rule)?);
        }
        Ok(Self { settings })
    }
}

impl From<FindingsSection> for Written {
    fn from(section: FindingsSection) -> Self {
        let settings = section.settings;
        let rule = |rule| WrittenRule::of(&settings, rule);
        Self {
            office_from: Some(settings.office.from),
            office_until: Some(settings.office.until),
            look_back_days: Some(settings.look_back_days),
            traffic: Some(settings.traffic),
            bulk_look_ups: rule(Rule::BulkLookUps),
            out_of_hours: rule(Rule::OutOfHours),
            no_matter: rule(Rule::NoMatter),
            matter_closed: rule(Rule::MatterClosed),
            subject_asked_by_many: rule(Rule::SubjectAskedByMany),
            denial_burst: rule(Rule::DenialBurst),
            interrupted: rule(Rule::Interrupted),
            clock_backwards: rule(Rule::ClockBackwards),
            silence: rule(Rule::Silence),
        }
    }
}

impl WrittenRule {
    fn of(settings: &Settings, rule: Rule) -> Self {
        let set = settings.of(rule);
        let is_windowed = rule != Rule::Silence;
        Self {
            on: Some(set.is_some()),
            threshold: set.map(|set| set.threshold),
            window: set.filter(|_| is_windowed).map(|set| SignedDuration::from_mins(set.window.minutes())),
        }
    }

    fn over(self, rule: Rule) -> Result<Option<RuleSettings>, String> {
        let name = rule.as_str().to_lowercase();
        let standard = Settings::standard_of(rule);
        let threshold = self.threshold.unwrap_or(standard.threshold);
        if threshold == 0 {
            return Err(format!(
                "findings.{name}.threshold must be at least 1; on = false switches the rule off"
            ));
        }
        let window = match self.window {
            None => standard.window,
            Some(_) if rule == Rule::Silence => {
                return Err("findings.silence has no window: it looks at office hours day by day".to_owned());
            }
            // Parts of a minute do not divide a day into whole minutes.
            Some(length) if length.as_secs() % 60 != 0 || length.subsec_nanos() != 0 => {
                return Err(format!("findings.{name}.window must be whole minutes"));
            }
            Some(length) => Window::of_minutes(length.as_mins())
                .map_err(|error| format!("findings.{name}.window: {error}"))?,
        };
        Ok(self.on.unwrap_or(true).then_some(RuleSettings { threshold, window }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let section: Result<FindingsSection, _> = toml::from_str(text);
        section.map(|section| section.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_standard_and_a_rule_can_be_switched_off() {
        let settings = read("silence = { on = false }\nbulk_look_ups = { threshold = 7 }").unwrap();
        assert_eq!(settings.of(Rule::Silence), None);
        let bulk = settings.of(Rule::BulkLookUps).unwrap();
        assert_eq!(bulk, RuleSettings { threshold: 7, ..Settings::standard_of(Rule::BulkLookUps) });
        assert_eq!(settings.of(Rule::Interrupted), Some(Settings::standard_of(Rule::Interrupted)));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, named) in [
            ("silense = { on = false }", "silense"),
            ("no_matter = { threshold = 0 }", "no_matter.threshold"),
            ("no_matter = { window = \"7m\" }", "no_matter.window"),
            ("denial_burst = { window = \"90s\" }", "denial_burst.window"),
            ("silence = { window = \"1h\" }", "silence"),
            ("office_from = \"18:00\"", "office_from"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_window_is_a_part_of_a_day_or_whole_days() {
        for text in ["10m", "1h", "24h", "168h"] {
            read(&format!("denial_burst = {{ window = \"{text}\" }}")).unwrap();
        }
    }
}

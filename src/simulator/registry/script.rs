//! How a simulated registry behaves, question by question.

use serde::{Deserialize, Serialize};

/// How a simulated registry behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// It answers truthfully.
    #[default]
    Honest,
    /// It answers about another person.
    WrongPerson,
    /// It answers with an error whose text names the person: a peer's text must not get out of the gateway.
    Fails,
    /// It never answers.
    Silent,
    /// It is not there.
    Down,
    /// It declines to answer.
    Refuse,
    /// It finds several persons.
    Ambiguous,
    /// Its answer lacks what every answer has.
    Malformed,
}

/// A script: a TOML file with `[[scene]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The scenes. Of those that a question falls in, the first with a behaviour decides; the waits add up.
    #[serde(default, rename = "scene")]
    pub scenes: Vec<Scene>,
}

/// What happens to some questions. Without bounds: to all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// From this question on; the first is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Up to and with this question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Only every n-th question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// How the registry behaves then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Behaviour>,
    /// How long it waits before it does, in milliseconds.
    #[serde(default)]
    pub slow_ms: u64,
}

impl Script {
    /// What happens to the question of this number: a behaviour, where a scene names one, and a wait in milliseconds.
    pub fn on(&self, question: u64) -> (Option<Behaviour>, u64) {
        let scenes = || self.scenes.iter().filter(|scene| scene.holds(question));
        (scenes().find_map(|scene| scene.behaviour), scenes().map(|scene| scene.slow_ms).sum())
    }
}

impl Scene {
    fn holds(&self, question: u64) -> bool {
        self.from.is_none_or(|from| question >= from)
            && self.until.is_none_or(|until| question <= until)
            && self.every.is_none_or(|every| every > 0 && question.is_multiple_of(every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_hold_within_their_bounds_and_their_waits_add_up() {
        let script: Script = toml::from_str(
            r#"
            [[scene]]
            from = 3
            until = 4
            behaviour = "down"
            [[scene]]
            every = 2
            behaviour = "wrong-person"
            slow_ms = 5
            [[scene]]
            slow_ms = 1
            "#,
        )
        .unwrap();
        let told: Vec<_> = (1..=6).map(|question| script.on(question)).collect();
        use Behaviour::{Down, WrongPerson};
        let expected = [
            (None, 1),
            (Some(WrongPerson), 6),
            (Some(Down), 1),
            (Some(Down), 6),
            (None, 1),
            (Some(WrongPerson), 6),
        ];
        assert_eq!(told, expected);
    }
}

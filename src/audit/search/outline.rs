//! What the index takes of an entry.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Field, Key};
use crate::audit::entry::Entry;

/// What of an entry can be searched for, borrowed from its bytes. The rest, which is most of it, is passed over: to read all
/// of every entry took 3 % of the processor of a gateway under load.
#[derive(Deserialize)]
struct Outline<'e> {
    request: Option<&'e str>,
    delivery: Option<&'e str>,
    exchange: Option<&'e str>,
    subject: Option<&'e str>,
    matter: Option<&'e str>,
    reason: Option<&'e str>,
    operator: Option<&'e str>,
    unit: Option<&'e str>,
    counterpart: Option<&'e str>,
    caller: Option<&'e str>,
    kind: Option<&'e str>,
    purpose: Option<&'e str>,
    code: Option<&'e str>,
    method: Option<&'e str>,
    phase: Option<&'e str>,
    service: Option<&'e str>,
    recorded: Timestamp,
}

impl Outline<'_> {
    fn of(&self, field: Field) -> Option<&str> {
        match field {
            Field::Request => self.request,
            Field::Delivery => self.delivery,
            Field::Exchange => self.exchange,
            Field::Subject => self.subject,
            Field::Matter => self.matter,
            Field::Reason => self.reason,
            Field::Operator => self.operator,
            Field::Unit => self.unit,
            Field::Counterpart => self.counterpart,
            Field::Caller => self.caller,
            Field::Kind => self.kind,
            Field::Purpose => self.purpose,
            Field::Code => self.code,
            Field::Method => self.method,
            Field::Phase => self.phase,
            Field::Service => self.service,
        }
    }
}

/// Every key of an entry as it is stored, and when it was recorded, in microseconds since 1970. `None` where the bytes are no
/// entry.
pub fn keys_of(entry: &[u8]) -> Option<(Vec<Key>, i64)> {
    if let Ok(outline) = serde_json::from_slice::<Outline<'_>>(entry) {
        let key = |field: &Field| outline.of(*field).map(|value| Key::of(*field, value));
        return Some((Field::ALL.iter().filter_map(key).collect(), outline.recorded.as_microsecond()));
    }
    // Text with escapes in it cannot be borrowed.
    let entry = Entry::from_json(entry).ok()?;
    let key = |field: &Field| field.of(&entry).map(|value| Key::of(*field, &value));
    Some((Field::ALL.iter().filter_map(key).collect(), entry.recorded.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::audit::entry::Phase;

    fn entry(matter: &str) -> Entry {
        let at = Timestamp::from_microsecond(1_764_000_000_123_456).unwrap();
        let mut entry = Entry::new(Uuid::from_u128(7), Phase::Refused, at, "a.b.C", "Do", "node");
        entry.request = Some(Uuid::from_u128(0xabc));
        entry.delivery = Some(Uuid::from_u128(0xdef));
        entry.exchange = Some(Uuid::from_u128(0x123));
        for text in [&mut entry.subject, &mut entry.operator, &mut entry.unit, &mut entry.caller] {
            *text = Some("one".to_owned());
        }
        entry.counterpart = Some("other".to_owned());
        entry.purpose = Some("LEGAL_AID".to_owned());
        entry.matter = Some(matter.to_owned());
        entry.reason = Some("DENIED".into());
        entry.kind = Some("FEE_WAIVER".into());
        entry.code = Some("OK".into());
        entry
    }

    #[test]
    fn an_entry_read_in_part_has_the_keys_of_the_whole_also_with_escapes_in_it() {
        for matter in ["LQ-2026-0001", "法援字第1号", "a \"quoted\" \\ matter\u{1}"] {
            let entry = entry(matter);
            let whole: Vec<Key> = Field::ALL
                .iter()
                .filter_map(|field| field.of(&entry).map(|value| Key::of(*field, &value)))
                .collect();
            assert_eq!(whole.len(), Field::ALL.len(), "the sample has every field");
            let bytes = entry.to_canonical_json().unwrap();
            assert_eq!(keys_of(&bytes), Some((whole, entry.recorded.as_microsecond())));
        }
        assert_eq!(keys_of(b"{}"), None);
    }
}

//! The units below agencies, and the operators who act for them, each with its days.

use std::collections::HashMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::day::day;
use crate::domain::agency::{CreditCode, StaffNumber, UnitCode};

/// A unit below an agency, such as a station in a court.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The agency that it belongs to.
    pub agency: CreditCode,
    /// Its code within the agency.
    pub code: UnitCode,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First day on which it may act; without it, any before the last.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_day")]
    pub from: Option<Date>,
    /// Last day on which it may act.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_day")]
    pub until: Option<Date>,
}

/// A person who acts for an agency, by the staff number alone: no name is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaffMember {
    /// The agency.
    pub agency: CreditCode,
    /// The unit.
    pub unit: UnitCode,
    /// The staff number.
    pub staff_number: StaffNumber,
    /// First day on which the person may act; without it, any before the last.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_day")]
    pub from: Option<Date>,
    /// Last day on which the person may act.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_day")]
    pub until: Option<Date>,
}

fn some_day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    day(deserializer).map(Some)
}

/// How an operator stands on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// Listed, within the days.
    Valid,
    /// Listed, but the days of the operator or of the unit are others.
    OtherDays,
    /// Not listed.
    NotListed,
}

/// First and last day, where there is one.
type Days = (Option<Date>, Option<Date>);

/// The list.
#[derive(Clone, Debug, Default)]
pub(super) struct Staff {
    units: HashMap<CreditCode, HashMap<UnitCode, Days>>,
    members: HashMap<CreditCode, HashMap<(UnitCode, StaffNumber), Days>>,
}

impl Staff {
    /// The list of these; the first that stands twice is the error.
    pub(super) fn build(units: Vec<Unit>, members: Vec<StaffMember>) -> Result<Self, String> {
        let mut staff = Self::default();
        for Unit { agency, code, from, until, .. } in units {
            let of_agency = staff.units.entry(agency).or_default();
            if of_agency.insert(code.clone(), (from, until)).is_some() {
                return Err(format!("unit {code} of agency {agency}"));
            }
        }
        for StaffMember { agency, unit, staff_number, from, until } in members {
            let of_agency = staff.members.entry(agency).or_default();
            if of_agency.insert((unit.clone(), staff_number.clone()), (from, until)).is_some() {
                return Err(format!("operator {staff_number} of unit {unit} of agency {agency}"));
            }
        }
        Ok(staff)
    }

    /// The agencies that have units or operators listed.
    pub(super) fn agencies(&self) -> impl Iterator<Item = &CreditCode> {
        self.units.keys().chain(self.members.keys())
    }

    pub(super) fn listing(
        &self,
        agency: &CreditCode,
        unit: &UnitCode,
        operator: &StaffNumber,
        on: Date,
    ) -> Listing {
        let holds =
            |days: &Days| days.0.is_none_or(|from| from <= on) && days.1.is_none_or(|until| on <= until);
        let of_unit = self.units.get(agency).and_then(|units| units.get(unit));
        let key = (unit.clone(), operator.clone());
        match self.members.get(agency).and_then(|members| members.get(&key)) {
            None => Listing::NotListed,
            // A unit need not be listed for its operators to be.
            Some(days) if holds(days) && of_unit.is_none_or(holds) => Listing::Valid,
            Some(_) => Listing::OtherDays,
        }
    }
}

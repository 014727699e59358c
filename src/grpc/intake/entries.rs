//! What an entry says of a call.

use super::{Intake, store_refusal};
use crate::audit::entry::{Entry, Field, Phase, Salt};
use crate::audit::findings::FindingId;
use crate::audit::secret::subject_bytes;
use crate::domain::agency::CreditCode;
use crate::domain::person::IdDocument;
use crate::entropy;
use crate::grpc::call::Call;
use crate::grpc::operation::Facts;
use crate::grpc::status::Refusal;
use crate::store::KeyUse;

impl Intake {
    /// The pseudonyms of a person under every key.
    ///
    /// # Errors
    /// When persons are named by a key that this gateway does not have, another one's: what it named would be missed.
    pub(in crate::grpc) async fn every_pseudonym(&self, id: &IdDocument) -> Result<Vec<String>, Refusal> {
        let own = self.pseudonyms.fingerprints();
        let adopted = self.store.adopted_keys(KeyUse::Pseudonym).await;
        let adopted = adopted.map_err(|error| store_refusal(&error))?;
        // Keys of before may have been retired.
        let mut later = adopted.iter().take_while(|key| own.first() != Some(*key));
        if let Some(missing) = later.find(|key| !own.contains(key)) {
            tracing::error!(
                fingerprint = missing,
                "persons are named by a key that this gateway does not have: give it the file keys.pseudonym of the others"
            );
            return Err(Refusal::PseudonymKeyMissing);
        }
        Ok(self.pseudonyms.every_pseudonym(id.kind().as_str(), id.reveal()))
    }

    /// An entry of a call, with all that is known of it.
    pub(in crate::grpc) fn entry(&self, call: &Call, phase: Phase, facts: &Facts, salt: &Salt) -> Entry {
        let mut entry = self.bare_entry(call, phase);
        entry.certificate = Some(call.certificate());
        if let Some(operator) = &facts.operator {
            entry.unit = Some(operator.unit.as_str().to_owned());
            entry.operator = Some(operator.staff_number.as_str().to_owned());
            entry.operator_name =
                operator.name.as_ref().map(|name| salt.commit(Field::OperatorName, name.reveal().as_bytes()));
        }
        entry.purpose = facts.purpose.as_ref().map(|purpose| purpose.as_str().to_owned());
        entry.legal_basis.clone_from(&facts.legal_basis);
        entry.agreement.clone_from(&facts.agreement);
        entry.matter = facts.matter.as_ref().map(|matter| matter.as_str().to_owned());
        if let Some(id) = &facts.subject {
            let (kind, number) = (id.kind().as_str(), id.reveal());
            entry.subject = Some(self.pseudonyms.pseudonym(kind, number));
            entry.subject_commitment = Some(salt.commit(Field::Subject, &subject_bytes(kind, number)));
        } else {
            entry.subject.clone_from(&facts.pseudonym);
        }
        entry.removal = facts.removal.clone().map(Box::new);
        entry.search.clone_from(&facts.search);
        self.name_things(&mut entry, facts);
        if phase != Phase::Request {
            entry.duration_us = Some(call.elapsed_us());
        }
        entry
    }

    /// A RESPONSE says how its REQUEST ended; on whose behalf and why stands there already.
    pub(in crate::grpc) fn response_entry(&self, call: &Call, facts: &Facts, request_index: u64) -> Entry {
        let mut entry = self.bare_entry(call, Phase::Response);
        self.name_things(&mut entry, facts);
        entry.request_index = Some(request_index);
        entry.duration_us = Some(call.elapsed_us());
        entry
    }

    fn bare_entry(&self, call: &Call, phase: Phase) -> Entry {
        let id = entropy::uuid_v7(self.clock.now());
        let (service, method) = call.service_and_method();
        let mut entry = Entry::new(id, phase, call.arrived(), service, method, &self.node);
        entry.caller = Some(call.caller().to_string());
        entry.trace = Some(call.trace().id().to_owned());
        entry
    }

    fn name_things(&self, entry: &mut Entry, facts: &Facts) {
        // Only an enrolled agency: one resident number in 31 has the check character of a credit code.
        let is_enrolled = |code: &CreditCode| self.directory.load().agency(code).is_some();
        entry.counterpart = facts.counterpart.filter(is_enrolled).map(|code| code.to_string());
        entry.request = facts.request_id.map(|id| id.uuid());
        entry.exchange = facts.exchange.map(|id| id.uuid());
        entry.delivery = facts.delivery.map(|id| id.uuid());
        entry.kind = facts.kind.map(|kind| kind.as_str().into());
        entry.finding = facts.finding.map(FindingId::uuid);
        entry.agreement_change.clone_from(&facts.agreement_change);
        entry.withheld = facts.withheld.iter().map(|field| field.as_str().into()).collect();
    }
}

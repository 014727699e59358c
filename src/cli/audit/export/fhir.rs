//! FHIR R4 AuditEvent, one resource a line: <https://hl7.org/fhir/R4/auditevent.html>.

use serde_json::{Map, Value, json};

use super::records::Record;
use crate::audit::entry::{Entry, Phase};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";

/// An entry as a resource.
pub(super) fn audit_event(record: &Record<'_>) -> Value {
    let entry = &record.entry;
    let (code, display) = kind(entry);
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": entry.id,
        "type": {"system": DICOM, "code": code, "display": display},
        "subtype": [
            {"system": "urn:legal-aid:method", "code": entry.method},
            {"system": "urn:legal-aid:phase", "code": entry.phase.as_str()},
        ],
        "action": action(entry),
        "recorded": entry.recorded.to_string(),
        "agent": agents(entry),
        "source": {
            "site": record.origin,
            "observer": {"identifier": {"system": "urn:legal-aid:node", "value": entry.node}},
            "type": [{"system": SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
        "entity": entities(record),
    });
    if let Some(event) = event.as_object_mut() {
        if entry.occurred <= entry.recorded {
            let period = json!({"start": entry.occurred.to_string(), "end": entry.recorded.to_string()});
            event.insert("period".to_owned(), period);
        }
        if let Some(code) = entry.code.as_deref() {
            event.insert("outcome".to_owned(), outcome(code).into());
            let told =
                entry.reason.as_deref().map_or_else(|| code.to_owned(), |reason| format!("{code} {reason}"));
            event.insert("outcomeDesc".to_owned(), told.into());
        }
    }
    event
}

/// The event's kind, of the value set audit-event-type.
fn kind(entry: &Entry) -> (&'static str, &'static str) {
    match (entry.phase, &*entry.method) {
        (Phase::HandshakeRefused, _) => ("110114", "User Authentication"),
        (Phase::Event, _) => ("110100", "Application Activity"),
        (_, "SubmitExchange" | "RespondToExchange" | "UploadAttachment") => ("110107", "Import"),
        (_, "PullDeliveries" | "DownloadAttachment" | "WatchExchanges") => ("110106", "Export"),
        _ if entry.service.ends_with(".AuditService") => ("110101", "Audit Log Used"),
        (_, "unknown") => ("110100", "Application Activity"),
        _ => ("110112", "Query"),
    }
}

/// Create, read, update, delete or execute (value set audit-event-action).
fn action(entry: &Entry) -> &'static str {
    match &*entry.method {
        "SubmitExchange" | "UploadAttachment" | "MarkFinding" => "C",
        "RespondToExchange" | "AcknowledgeDelivery" => "U",
        "GetExchange" | "GetEntry" | "GetCheckpoint" | "GetVerification" | "GetUpload"
        | "DownloadAttachment" => "R",
        _ => "E",
    }
}

/// Success, minor failure (the caller's) or serious failure (value set audit-event-outcome).
fn outcome(code: &str) -> &'static str {
    match code {
        "OK" => "0",
        "INTERNAL" | "UNAVAILABLE" | "UNKNOWN" | "DATA_LOSS" | "DEADLINE_EXCEEDED" => "8",
        _ => "4",
    }
}

fn agents(entry: &Entry) -> Vec<Value> {
    let agency = |code: &str, requestor: bool| json!({"who": {"identifier": {"system": "urn:legal-aid:agency", "value": code}}, "requestor": requestor});
    let mut agents = Vec::new();
    if let (Some(operator), Some(caller)) = (&entry.operator, &entry.caller) {
        let mut agent = Map::new();
        let system = format!("urn:legal-aid:agency:{caller}:staff");
        agent.insert("who".to_owned(), json!({"identifier": {"system": system, "value": operator}}));
        agent.insert("altId".to_owned(), operator.as_str().into());
        agent.insert("requestor".to_owned(), true.into());
        if let Some(unit) = &entry.unit {
            agent.insert("role".to_owned(), json!([{"text": unit}]));
        }
        if let Some(purpose) = &entry.purpose {
            let coding = json!([{"coding": [{"system": "urn:legal-aid:purpose", "code": purpose}]}]);
            agent.insert("purposeOfUse".to_owned(), coding);
        }
        agents.push(Value::Object(agent));
    }
    match &entry.caller {
        Some(caller) => agents.push(agency(caller, agents.is_empty())),
        None => {
            let node = json!({"system": "urn:legal-aid:node", "value": entry.node});
            agents.push(json!({"who": {"identifier": node}, "requestor": true}));
        }
    }
    agents.extend(entry.counterpart.as_deref().map(|code| agency(code, false)));
    agents
}

/// The log's entry itself first: by it a reader finds and proves the record.
fn entities(record: &Record<'_>) -> Vec<Value> {
    let entry = &record.entry;
    let entity = |system: &str, value: String, code: &str, display: &str| {
        json!({
            "what": {"identifier": {"system": system, "value": value}},
            "type": {"system": ENTITY_TYPE, "code": code, "display": display},
        })
    };
    let mut log = entity("urn:legal-aid:log-index", record.index.to_string(), "4", "Other");
    let detail = |kind: &str, value: &str| json!({"type": kind, "valueString": value});
    let mut details = vec![detail("log", record.origin), detail("leaf_hash", &record.leaf_hash)];
    let more = [
        ("request_index", entry.request_index.map(|index| index.to_string())),
        ("trace", entry.trace.clone()),
        ("certificate", entry.certificate.clone()),
        ("request_commitment", entry.request_commitment.as_ref().map(|commitment| commitment.0.clone())),
        ("response_commitment", entry.response_commitment.as_ref().map(|commitment| commitment.0.clone())),
        ("agreement_change", entry.agreement_change.as_deref().and_then(|of| serde_json::to_string(of).ok())),
        ("considered", (!entry.considered.is_empty()).then(|| entry.considered.join("；"))),
        ("withheld", (!entry.withheld.is_empty()).then(|| entry.withheld.join("；"))),
        ("legal_basis", (!entry.legal_basis.is_empty()).then(|| entry.legal_basis.join("；"))),
    ];
    details.extend(more.iter().filter_map(|(kind, value)| Some(detail(kind, value.as_deref()?))));
    if let Some(log) = log.as_object_mut() {
        log.insert("detail".to_owned(), details.into());
    }
    let named = [
        ("urn:legal-aid:exchange", entry.exchange.map(|id| id.to_string()), "2", "System Object"),
        ("urn:legal-aid:delivery", entry.delivery.map(|id| id.to_string()), "2", "System Object"),
        ("urn:legal-aid:finding", entry.finding.map(|id| id.to_string()), "2", "System Object"),
        ("urn:legal-aid:matter", entry.matter.clone(), "2", "System Object"),
        ("urn:legal-aid:subject-pseudonym", entry.subject.clone(), "1", "Person"),
    ];
    let named = named
        .into_iter()
        .filter_map(|(system, value, code, display)| Some(entity(system, value?, code, display)));
    std::iter::once(log).chain(named).collect()
}

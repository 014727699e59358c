//! OCSF API Activity (class 6003), one event a line: <https://schema.ocsf.io/1.6.0/classes/api_activity>. What has no
//! attribute there stands under `unmapped` by its name in the entry.

use serde_json::{Map, Value, json};

use super::records::Record;
use crate::audit::entry::{Decision, Entry, Phase};

/// The schema's version that the events keep to.
const VERSION: &str = "1.6.0";

const CATEGORY: u32 = 6;
const CLASS: u32 = 6003;

/// An entry as an event.
pub(super) fn event(record: &Record<'_>) -> Value {
    let entry = &record.entry;
    let (activity, activity_name) = activity(entry);
    let (severity, severity_name) = severity(entry);
    let (status, status_name) = match entry.code.as_deref() {
        Some("OK") => (1, "Success"),
        Some(_) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let mut event = json!({
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": u64::from(CLASS) * 100 + activity,
        "type_name": format!("API Activity: {activity_name}"),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "time": entry.occurred.as_millisecond(),
        "metadata": metadata(record),
        "actor": actor(entry),
        "api": api(entry),
        "src_endpoint": source(entry),
        "dst_endpoint": {"name": entry.node, "svc_name": "legal-aid-gateway"},
        "unmapped": unmapped(record),
    });
    if let Some(event) = event.as_object_mut() {
        put(event, "status_code", entry.code.as_deref());
        put(event, "status_detail", entry.reason.as_deref());
        put(event, "duration", entry.duration_us.map(|micros| micros / 1000));
        let resources = resources(entry);
        put(event, "resources", (!resources.is_empty()).then_some(resources));
    }
    event
}

fn metadata(record: &Record<'_>) -> Value {
    let entry = &record.entry;
    let product = json!({
        "name": "legal-aid-gateway",
        "vendor_name": "legal-aid-exchange",
        "version": env!("CARGO_PKG_VERSION"),
    });
    let mut metadata = Map::new();
    put(&mut metadata, "version", Some(VERSION));
    put(&mut metadata, "product", Some(product));
    put(&mut metadata, "log_name", Some(record.origin));
    put(&mut metadata, "log_version", Some(&*entry.schema));
    put(&mut metadata, "logged_time", Some(entry.recorded.as_millisecond()));
    put(&mut metadata, "original_time", Some(entry.occurred.to_string()));
    put(&mut metadata, "sequence", Some(record.index));
    put(&mut metadata, "uid", Some(entry.id.to_string()));
    put(&mut metadata, "correlation_uid", entry.trace.as_deref());
    Value::Object(metadata)
}

fn put<T: Into<Value>>(object: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

/// What a call does, in the class's words.
fn activity(entry: &Entry) -> (u64, &'static str) {
    match &*entry.method {
        "SubmitExchange" | "UploadAttachment" | "MarkFinding" => (1, "Create"),
        "RespondToExchange" | "AcknowledgeDelivery" => (3, "Update"),
        _ if matches!(entry.phase, Phase::Event | Phase::HandshakeRefused) => (99, "Other"),
        "unknown" => (99, "Other"),
        _ => (2, "Read"),
    }
}

fn severity(entry: &Entry) -> (u32, &'static str) {
    match entry.phase {
        Phase::Interrupted | Phase::HandshakeRefused => (3, "Medium"),
        _ if entry.decision == Some(Decision::Deny) => (3, "Medium"),
        _ if entry.code.as_deref().is_some_and(|code| code != "OK") => (2, "Low"),
        _ => (1, "Informational"),
    }
}

/// The operator where the entry names one, else the calling system, else the gateway itself.
fn actor(entry: &Entry) -> Value {
    let mut actor = Map::new();
    if let Some(operator) = &entry.operator {
        let mut organ = Map::new();
        put(&mut organ, "uid", entry.caller.as_deref());
        put(&mut organ, "ou_name", entry.unit.as_deref());
        actor.insert("user".to_owned(), json!({"uid": operator, "org": organ}));
    }
    let system = entry.caller.as_deref().unwrap_or(&entry.node);
    put(&mut actor, "app_uid", Some(system));
    Value::Object(actor)
}

fn api(entry: &Entry) -> Value {
    let mut api = Map::new();
    put(&mut api, "operation", Some(&*entry.method));
    api.insert("service".to_owned(), json!({"name": entry.service}));
    if let Some(request) = entry.request {
        api.insert("request".to_owned(), json!({"uid": request}));
    }
    if let Some(code) = entry.code.as_deref() {
        let mut response = Map::new();
        put(&mut response, "message", entry.reason.as_deref());
        put(&mut response, "error", (code != "OK").then_some(code));
        if !response.is_empty() {
            api.insert("response".to_owned(), Value::Object(response));
        }
    }
    Value::Object(api)
}

/// Agencies are known by certificate, not by address.
fn source(entry: &Entry) -> Value {
    let mut source = Map::new();
    put(&mut source, "uid", entry.certificate.as_deref());
    put(&mut source, "name", Some(entry.caller.as_deref().unwrap_or(&entry.node)));
    Value::Object(source)
}

fn resources(entry: &Entry) -> Vec<Value> {
    let named = [
        ("exchange", entry.exchange.map(|id| id.to_string())),
        ("delivery", entry.delivery.map(|id| id.to_string())),
        ("finding", entry.finding.map(|id| id.to_string())),
        ("matter", entry.matter.clone()),
        ("subject-pseudonym", entry.subject.clone()),
    ];
    named.into_iter().filter_map(|(kind, uid)| Some(json!({"type": kind, "uid": uid?}))).collect()
}

fn unmapped(record: &Record<'_>) -> Value {
    let entry = &record.entry;
    let mut rest = Map::new();
    put(&mut rest, "log_index", Some(record.index));
    put(&mut rest, "leaf_hash", Some(record.leaf_hash.as_str()));
    put(&mut rest, "phase", Some(entry.phase.as_str()));
    put(&mut rest, "counterpart", entry.counterpart.as_deref());
    put(&mut rest, "purpose", entry.purpose.as_deref());
    put(&mut rest, "request_index", entry.request_index);
    put(&mut rest, "items", entry.items);
    put(&mut rest, "traces", (!entry.traces.is_empty()).then(|| entry.traces.clone()));
    put(&mut rest, "legal_basis", (!entry.legal_basis.is_empty()).then(|| entry.legal_basis.clone()));
    put(&mut rest, "agreement", entry.agreement.as_ref().map(|a| json!({"id": a.id, "version": a.version})));
    put(&mut rest, "agreement_change", entry.agreement_change.as_ref().map(|change| json!(change)));
    put(&mut rest, "considered", (!entry.considered.is_empty()).then(|| entry.considered.clone()));
    put(&mut rest, "withheld", (!entry.withheld.is_empty()).then(|| entry.withheld.clone()));
    let commitments = [
        ("operator_name", &entry.operator_name),
        ("request_commitment", &entry.request_commitment),
        ("response_commitment", &entry.response_commitment),
    ];
    for (name, commitment) in commitments {
        put(&mut rest, name, commitment.as_ref().map(|commitment| commitment.0.as_str()));
    }
    put(
        &mut rest,
        "decision",
        entry.decision.map(|decision| match decision {
            Decision::Allow => "ALLOW",
            Decision::Deny => "DENY",
        }),
    );
    Value::Object(rest)
}

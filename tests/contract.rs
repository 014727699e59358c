//! Holds the contract in `proto/` to design §4, and pins its field numbers: what clients were built against stays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::{env, fs};

use legal_aid_gateway::access::{Method, PACKAGE};
use legal_aid_gateway::grpc::json::descriptors;
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

/// Services that agencies implement and the gateway calls. All others are the gateway's.
const SERVICES_OF_AGENCIES: [&str; 2] = ["RegistryService", "InboxService"];

/// Every line of the contract that a client may rely on.
const LOCK_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/contract.lock");

/// Rewrites [`LOCK_FILE`] with what was added.
const UPDATE: &str = "UPDATE_CONTRACT";

#[test]
fn every_file_of_the_folder_is_compiled_and_lies_where_its_package_says() {
    let mut faults = Faults::default();
    let compiled: BTreeSet<String> = files().map(|file| file.name().to_owned()).collect();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/proto"));
    for path in proto_files(root) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        faults.unless(compiled.contains(&name), &name, "is in proto/ but is not compiled");
    }
    for file in files() {
        let folder = file.name().rsplit_once('/').map_or("", |(folder, _)| folder);
        let package = file.package_name().replace('.', "/");
        faults.unless(folder == package, file.name(), "directory must equal package");
    }
    faults.none();
}

/// Compilers warn every client's author about an import that nothing needs.
#[test]
fn every_import_is_used() {
    let mut faults = Faults::default();
    for file in files() {
        let mut used = BTreeSet::new();
        for field in fields().filter(|field| field.parent_file().name() == file.name()) {
            match field.kind() {
                Kind::Message(message) => drop(used.insert(message.parent_file().name().to_owned())),
                Kind::Enum(of) => drop(used.insert(of.parent_file().name().to_owned())),
                _ => {}
            }
        }
        for method in methods().filter(|method| method.parent_file().name() == file.name()) {
            used.extend([method.input(), method.output()].map(|of| of.parent_file().name().to_owned()));
        }
        for import in file.dependencies() {
            let rule = format!("imports {}, and uses nothing of it", import.name());
            faults.unless(used.contains(import.name()), file.name(), &rule);
        }
    }
    faults.none();
}

#[test]
fn every_file_names_its_java_package_and_gives_each_type_a_file() {
    let mut faults = Faults::default();
    for file in files() {
        let options = file.file_descriptor_proto().options.clone().unwrap_or_default();
        faults.unless(options.java_multiple_files(), file.name(), "must set java_multiple_files = true");
        let package = if file.package_name() == PACKAGE {
            format!("org.{PACKAGE}")
        } else {
            "com.google.type".to_owned()
        };
        let rule = format!("must set java_package = \"{package}\"");
        faults.unless(options.java_package() == package, file.name(), &rule);
    }
    faults.none();
}

#[test]
fn services_end_in_service_and_say_who_implements_them() {
    let mut faults = Faults::default();
    for service in services() {
        faults.unless(service.name().ends_with("Service"), service.full_name(), "must end in Service");
        let comment = comment(&service.parent_file(), service.path()).unwrap_or_default();
        let (rule, says) = if is_the_gateways(&service) {
            ("its comment must say: Implemented by the gateway", "Implemented by the gateway")
        } else {
            ("its comment must say: Called by the gateway", "Called by the gateway")
        };
        faults.unless(comment.contains(says), service.full_name(), rule);
    }
    for name in SERVICES_OF_AGENCIES {
        faults.unless(
            services().any(|service| service.name() == name),
            name,
            "is not in the contract any more",
        );
    }
    faults.none();
}

#[test]
fn each_method_has_its_own_request_and_response() {
    let mut faults = Faults::default();
    for method in methods() {
        let own = |suffix| format!("{PACKAGE}.{}{suffix}", method.name());
        for (message, suffix) in [(method.input(), "Request"), (method.output(), "Response")] {
            let rule = format!("must take or give {}, not {}", own(suffix), message.full_name());
            faults.unless(message.full_name() == own(suffix), method.full_name(), &rule);
        }
    }
    faults.none();
}

#[test]
fn enum_values_carry_their_enums_name_and_zero_is_unspecified() {
    let mut faults = Faults::default();
    for of in enums() {
        let prefix = upper_snake(of.name());
        for value in of.values() {
            let rule = format!("must start with {prefix}_");
            faults.unless(value.name().starts_with(&format!("{prefix}_")), value.full_name(), &rule);
        }
        let zero = of.get_value(0).map(|value| value.name().to_owned());
        let rule = format!("must start at {prefix}_UNSPECIFIED = 0");
        faults.unless(zero == Some(format!("{prefix}_UNSPECIFIED")), of.full_name(), &rule);
    }
    faults.none();
}

#[test]
fn money_is_integer_fen_and_nothing_floats() {
    const SUMS: [&str; 9] = ["fen", "amount", "sum", "fee", "price", "cost", "income", "yuan", "money"];
    let mut faults = Faults::default();
    for field in fields() {
        let kind = field.kind();
        faults.unless(
            !matches!(kind, Kind::Float | Kind::Double),
            field.full_name(),
            "floating point cannot carry money, times or digests: use an integer",
        );
        if field.name().ends_with("_fen") {
            faults.unless(kind == Kind::Int64, field.full_name(), "money is int64 fen");
        } else if is_number(&kind) {
            let is_a_sum = field.name().split('_').any(|word| SUMS.contains(&word));
            faults.unless(!is_a_sum, field.full_name(), "a sum of money must be named …_fen");
        }
    }
    faults.none();
}

#[test]
fn times_are_timestamps_and_legal_dates_are_dates() {
    const TIME_ENDINGS: [&str; 6] = ["_at", "_time", "_from", "_before", "_until", "_as_of"];
    const DATE_ENDINGS: [&str; 7] = ["_on", "_date", "_from", "_until", "_to", "_as_of", "as_of"];
    // `_from` and `_to` may also be about agencies.
    const UNMISTAKABLE: [&str; 6] = ["_at", "_time", "_on", "_date", "_until", "_as_of"];
    let ends = |name: &str, endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let mut faults = Faults::default();
    for field in fields() {
        let name = field.name();
        let message = match field.kind() {
            Kind::Message(message) => message.full_name().to_owned(),
            _ => String::new(),
        };
        match message.as_str() {
            "google.protobuf.Timestamp" => {
                let rule = format!("a time must end in one of {TIME_ENDINGS:?}");
                faults.unless(ends(name, &TIME_ENDINGS), field.full_name(), &rule);
            }
            "google.type.Date" => {
                let rule = format!("a legal date must end in one of {DATE_ENDINGS:?}");
                faults.unless(ends(name, &DATE_ENDINGS), field.full_name(), &rule);
            }
            _ => {
                let sounds = ends(name, &UNMISTAKABLE);
                let rule =
                    "sounds like a time or date: make it google.protobuf.Timestamp or google.type.Date";
                faults.unless(!sounds, field.full_name(), rule);
            }
        }
    }
    faults.none();
}

#[test]
fn everything_has_a_comment() {
    let mut faults = Faults::default();
    let mut look = |file: &FileDescriptor, path: &[i32], name: &str| {
        let said = comment(file, path).is_some_and(|comment| !comment.trim().is_empty());
        faults.unless(said, name, "needs a comment: what it means, its unit, its legal source");
    };
    for service in services() {
        look(&service.parent_file(), service.path(), service.full_name());
    }
    for method in methods() {
        look(&method.parent_file(), method.path(), method.full_name());
    }
    for message in messages() {
        look(&message.parent_file(), message.path(), message.full_name());
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            look(&oneof.parent_file(), oneof.path(), oneof.full_name());
        }
    }
    for field in fields() {
        look(&field.parent_file(), field.path(), field.full_name());
    }
    for of in enums() {
        look(&of.parent_file(), of.path(), of.full_name());
        for value in of.values() {
            look(&value.parent_file(), value.path(), value.full_name());
        }
    }
    faults.none();
}

#[test]
fn every_request_can_be_told_from_its_repetition() {
    let mut faults = Faults::default();
    for method in methods() {
        let named = if method.name() == "Deliver" {
            // What the gateway hands over is named by its delivery, the same through every attempt.
            text_within(&method.input(), &[("delivery", "Delivery", "delivery_id")])
        } else {
            let places = [("envelope", "Envelope", "request_id"), ("context", "CallContext", "request_id")];
            text_within(&method.input(), &places)
        };
        let rule =
            "its request needs `Envelope envelope` or `CallContext context`, which carry the request_id";
        faults.unless(named, method.full_name(), rule);
    }
    faults.none();
}

#[test]
fn every_answer_of_the_gateway_says_where_its_evidence_stands() {
    let mut faults = Faults::default();
    for method in methods().filter(|method| is_the_gateways(method.parent_service())) {
        let audit = method.output().get_field_by_name("audit");
        let stands = audit.is_some_and(|field| {
            let receipt = format!("{PACKAGE}.AuditReceipt");
            field.number() == 15 && matches!(field.kind(), Kind::Message(of) if of.full_name() == receipt)
        });
        faults.unless(stands, method.output().full_name(), "needs `AuditReceipt audit = 15`");
    }
    faults.none();
}

/// What stands before the methods holds a request to one message or not, as [`Method::shape`] says.
#[test]
fn every_method_has_the_shape_that_the_front_expects() {
    let mut faults = Faults::default();
    for method in methods().filter(|method| is_the_gateways(method.parent_service())) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let Some(shape) = Method::at_path(&path).map(Method::shape) else { continue };
        let declared = (!shape.takes_one_message(), !shape.gives_one_message());
        let is = (method.is_client_streaming(), method.is_server_streaming());
        faults.unless(declared == is, method.full_name(), "access::Method declares another shape");
    }
    faults.none();
}

/// An agreement can allow only what [`Method`] names: a method that is missing there could never be called.
#[test]
fn every_method_of_the_gateway_can_be_allowed_by_an_agreement() {
    let known: Vec<String> =
        Method::ALL.iter().map(|method| format!("{}/{}", method.service(), method.name())).collect();
    let known_once: BTreeSet<_> = known.iter().cloned().collect();
    assert_eq!(known.len(), known_once.len(), "access::Method names a method twice");
    let promised: BTreeSet<_> = methods()
        .filter(|method| is_the_gateways(method.parent_service()))
        .map(|method| place(&method))
        .collect();
    let missing: Vec<_> = promised.difference(&known_once).collect();
    let surplus: Vec<_> = known_once.difference(&promised).collect();
    assert!(missing.is_empty(), "add to `methods!` in src/access.rs: {missing:?}");
    assert!(surplus.is_empty(), "in src/access.rs, but not in proto/: {surplus:?}");
}

#[test]
fn what_clients_rely_on_stays() {
    let recorded = fs::read_to_string(LOCK_FILE).unwrap_or_default();
    let difference = Difference::between(&recorded, &contract_lines());
    assert!(difference.broken.is_empty(), "{}", difference.broken_text());
    if difference.added.is_empty() {
        return;
    }
    if env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(LOCK_FILE, lock_text(&contract_lines())).unwrap();
        return;
    }
    panic!(
        "new in the contract, and not recorded in proto/contract.lock:\n\n{}\n\n\
         If it is meant, record it; from then on it stays:\n\n    {UPDATE}=1 cargo test --test contract\n",
        difference.added.iter().map(|line| format!("+ {line}\n")).collect::<String>()
    );
}

#[test]
fn a_line_that_is_changed_or_removed_is_broken_and_a_new_one_is_added() {
    let now = ["p.M.a = 1 string", "p.M.b = 3 bytes", "p.M.d = 4 bool"].map(str::to_owned);
    let difference =
        Difference::between("# about\np.M.a = 1 string\np.M.b = 2 bytes\np.M.c = 7 int64\n", &now);
    let broken = difference.broken_text();
    assert_eq!(difference.added, ["p.M.d = 4 bool"]);
    assert!(broken.contains("changed:\n- p.M.b = 2 bytes\n+ p.M.b = 3 bytes"), "{broken}");
    assert!(broken.contains("removed:\n- p.M.c = 7 int64"), "{broken}");
    assert!(!broken.contains("p.M.a"), "{broken}");
}

/// What a recorded contract lost, and what is new beside it.
struct Difference {
    /// What was recorded, and what stands in its place.
    broken: Vec<(String, Option<String>)>,
    added: Vec<String>,
}

impl Difference {
    fn between(recorded: &str, now: &[String]) -> Self {
        // A line is about what stands before its first space: a field, a value, a method.
        let about = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let recorded: Vec<&str> =
            recorded.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let by_subject: BTreeMap<String, &String> = now.iter().map(|line| (about(line), line)).collect();
        let broken = recorded
            .iter()
            .filter(|line| !now.iter().any(|current| current == *line))
            .map(|line| ((*line).to_owned(), by_subject.get(&about(line)).map(|line| (*line).clone())))
            .collect();
        let subjects: BTreeSet<String> = recorded.iter().map(|line| about(line)).collect();
        let added = now.iter().filter(|line| !subjects.contains(&about(line))).cloned().collect();
        Self { broken, added }
    }

    fn broken_text(&self) -> String {
        let mut text = "this breaks clients that were built against the recorded contract:\n\n".to_owned();
        for (was, is) in &self.broken {
            match is {
                Some(is) => text.push_str(&format!("changed:\n- {was}\n+ {is}\n\n")),
                None => text.push_str(&format!("removed:\n- {was}\n\n")),
            }
        }
        text.push_str(
            "Leave these as they were and add new fields, values and methods beside them, with new numbers \
             (deprecate what is not wanted any more; a new shape belongs in a new package, v2).\n\
             Where nobody can have built against a line yet, take it out of proto/contract.lock by hand.\n",
        );
        text
    }
}

/// What clients rely on: one line for each message, field, enum value and method, in the order of the files.
fn contract_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for message in messages() {
        lines.push(format!("{} message", message.full_name()));
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        lines.extend(fields.iter().map(field_line));
    }
    for of in enums() {
        lines.push(format!("{} enum", of.full_name()));
        let values =
            of.values().map(|value| format!("{}.{} = {}", of.full_name(), value.name(), value.number()));
        lines.extend(values);
    }
    for method in methods() {
        let stream = |streams| if streams { "stream " } else { "" };
        lines.push(format!(
            "{} ({}{}) returns ({}{})",
            place(&method),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        ));
    }
    lines
}

fn field_line(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let presence = field.field_descriptor_proto().proto3_optional();
    let label = match (field.cardinality(), presence) {
        (Cardinality::Repeated, _) => "repeated".to_owned(),
        (_, true) => "optional".to_owned(),
        _ => field
            .containing_oneof()
            .map_or_else(|| "singular".to_owned(), |oneof| format!("oneof {}", oneof.name())),
    };
    format!("{} = {} {kind} {label}", field.full_name(), field.number())
}

fn lock_text(lines: &[String]) -> String {
    let head = "\
# The contract, line by line: fields with number, type and label, enum values, methods. Clients were built against
# it, so a line stays as it is. tests/contract.rs compares; after an addition record it with
#
#     UPDATE_CONTRACT=1 cargo test --test contract
#
# which adds lines, and never removes or changes one.
";
    let mut text = head.to_owned();
    for line in lines {
        let opens_a_type = line.ends_with(" message") || line.ends_with(" enum");
        let first_method = line.contains(") returns (") && !text.contains(") returns (");
        if opens_a_type || first_method {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Everything that is wrong, so that one run says all of it.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, holds: bool, subject: &str, rule: impl Display) {
        if !holds {
            self.0.push(format!("{subject}: {rule}"));
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "the contract breaks its own rules:\n\n{}\n", self.0.join("\n"));
    }
}

fn pool() -> &'static DescriptorPool {
    descriptors().expect("the descriptors in the binary can be read")
}

/// The files of `proto/`; what comes with protobuf itself is not ours to judge.
fn files() -> impl Iterator<Item = FileDescriptor> {
    pool().files().filter(|file| file.package_name() != "google.protobuf")
}

fn services() -> impl Iterator<Item = ServiceDescriptor> {
    files().flat_map(|file| file.services().collect::<Vec<_>>())
}

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    services().flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn messages() -> impl Iterator<Item = MessageDescriptor> {
    fn with_nested(message: MessageDescriptor) -> Vec<MessageDescriptor> {
        let nested: Vec<_> = message.child_messages().flat_map(with_nested).collect();
        [vec![message], nested].concat()
    }
    files().flat_map(|file| file.messages().flat_map(with_nested).collect::<Vec<_>>())
}

fn enums() -> impl Iterator<Item = EnumDescriptor> {
    let nested = messages().flat_map(|message| message.child_enums().collect::<Vec<_>>());
    files().flat_map(|file| file.enums().collect::<Vec<_>>()).chain(nested)
}

fn fields() -> impl Iterator<Item = FieldDescriptor> {
    messages().flat_map(|message| message.fields().collect::<Vec<_>>())
}

fn is_the_gateways(service: &ServiceDescriptor) -> bool {
    !SERVICES_OF_AGENCIES.contains(&service.name())
}

/// `package.Service/Method`.
fn place(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Whether `message` has one of the fields, of that type, which in turn has that text.
fn text_within(message: &MessageDescriptor, places: &[(&str, &str, &str)]) -> bool {
    places.iter().any(|(field, of, text)| {
        let Some(Kind::Message(inner)) = message.get_field_by_name(field).map(|field| field.kind()) else {
            return false;
        };
        inner.full_name() == format!("{PACKAGE}.{of}")
            && inner.get_field_by_name(text).is_some_and(|text| text.kind() == Kind::String)
    })
}

/// The comment before the element at `path`.
fn comment(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let source = file.file_descriptor_proto().source_code_info.as_ref()?;
    let location = source.location.iter().find(|location| location.path == path)?;
    location.leading_comments.clone()
}

fn is_number(kind: &Kind) -> bool {
    !matches!(kind, Kind::Message(_) | Kind::Enum(_) | Kind::String | Kind::Bytes | Kind::Bool)
}

fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_uppercase());
    }
    snake
}

fn proto_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(proto_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found
}

//! Promise P5: no name, number, telephone or figure of a person appears in what the gateway writes, says of errors, or
//! keeps in the clear. The real binary runs with every trace switched on, is asked rightly and wrongly, and then
//! everything that it wrote is searched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use district::{
    DEADLINE, Raw, answer, basis, day_from_today, example_json, frame, get, path_of, pull, respond,
    send_malformed_path, submit, verify, waiver, wire_date,
};
use legal_aid_gateway::access::Method;
use legal_aid_gateway::client::{AgencyClient, Profile};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::VerificationResult;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{NOT_ON_THE_REGISTER, ON_THE_REGISTER, codes, purposes};
use legal_aid_gateway::simulator::Serving;
use legal_aid_gateway::simulator::court::{self, Script};
use legal_aid_gateway::simulator::district::District;
use legal_aid_gateway::simulator::registry::{self, Behaviour, RegistryConfig};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};

const REPRESENTATIVE: (&str, &str) = ("测试丙代", "11010519491231002X");
const OPERATOR: &str = "王经办员";
const PHONE: &str = "13987650123";
/// A claimed sum and a fee, in fen, that stand nowhere else.
const FIGURES: [i64; 2] = [98_765_431, 1_245_679];
/// The line that the simulated registry answers with.
const LINE: &str = "120000";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_names_a_person() {
    let scene = Scene::start().await;
    let mut said = Said::default();
    verifications(&scene, &mut said).await;
    let matter = "LQ-2026-0777";
    fee_waiver_to_its_decision(&scene, matter).await;
    let digits_as_code = number_that_passes_as_credit_code();
    papers(&scene, &mut said, &digits_as_code).await;
    spoilt_calls(&scene, &mut said, &digits_as_code).await;
    spoilt_paths_and_headers(&scene, &mut said).await;
    every_text_of_the_kinds(&scene, &mut said).await;
    scene.audit_cli(&["audit", "list", "--as", "auditor.toml", "--json"], "list.out");
    scene.audit_cli(&["audit", "export", "--as", "auditor.toml", "--out", "export.jsonl"], "export.out");
    let checkpoint = await_file(&scene.folder.join("checkpoint"));
    let live = ["gateway.db", "gateway.db-wal"].map(|name| std::fs::read(scene.folder.join(name)).unwrap());
    let temporary = scene.stop().await;
    let folder = temporary.path().join("district");

    let mut written = vec![
        ("checkpoint", checkpoint),
        ("the running database", live[0].clone()),
        ("its write-ahead log", live[1].clone()),
        ("errors", said.bytes),
    ];
    for name in ["out", "err", "list.out", "export.out", "export.jsonl", "gateway.db"] {
        written.push((name, std::fs::read(folder.join(name)).unwrap()));
    }
    let everything: Vec<u8> = written.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();

    // The search finds what must be there, in every place where something must be.
    for (place, bytes) in &written {
        let sign = match *place {
            "out" => "listening on",
            "err" => "INVALID_REQUEST",
            "errors" => "RESIDENT_ID_CHECK",
            "checkpoint" | "the running database" | "its write-ahead log" => "legal-aid-exchange",
            _ => matter,
        };
        let found = find(bytes, sign) || find(bytes, "SQLite format");
        assert!(found, "{place} ({} bytes) does not even hold {sign}", bytes.len());
    }
    assert!(find(&everything, codes::CENTRE) && find(&everything, matter));
    // It finds the other spellings too.
    let sealed = BASE64.encode(format!("..{PHONE}..").as_bytes());
    assert!(find(sealed.as_bytes(), PHONE) && find(HEXLOWER.encode(PHONE.as_bytes()).as_bytes(), PHONE));

    let mut secrets: Vec<String> =
        [ON_THE_REGISTER, NOT_ON_THE_REGISTER, REPRESENTATIVE, ("另一人", "331004197005050053")]
            .iter()
            .flat_map(|(name, number)| [(*name).to_owned(), (*number).to_owned(), number[..17].to_owned()])
            .collect();
    secrets.extend([OPERATOR.to_owned(), PHONE.to_owned(), digits_as_code]);
    // The lawyers of the examples.
    secrets.extend(["测试律师甲", "测试律师乙", "13310202610000001", "13310202610000002"].map(str::to_owned));
    secrets.extend(FIGURES.iter().map(ToString::to_string));
    secrets.extend(["987,654.31", "12,456.79", "12456.79", "987654.31"].map(str::to_owned));
    for (place, bytes) in &written {
        for secret in &secrets {
            assert!(!find(bytes, secret), "{secret} stands in {place}: {}", around(bytes, secret));
        }
        assert!(*place != "err" || !find(bytes, LINE), "an income line stands in {place}");
    }
}

// ---- what is asked -----------------------------------------------------------------------------------------------

async fn verifications(scene: &Scene, said: &mut Said) {
    for (behaviour, person, expected) in [
        (Behaviour::Honest, ON_THE_REGISTER, VerificationResult::Match),
        (Behaviour::Honest, NOT_ON_THE_REGISTER, VerificationResult::NoMatch),
        (Behaviour::WrongPerson, ON_THE_REGISTER, VerificationResult::Ambiguous),
        (Behaviour::Fails, ON_THE_REGISTER, VerificationResult::Unavailable),
    ] {
        let registry = scene.registry(behaviour).await;
        let request = scene.question(person);
        let answered = verify(&scene.centre, &request).await.unwrap().answer.unwrap();
        assert_eq!(answered.result, expected as i32);
        // Replayed, and reused with another content.
        verify(&scene.centre, &request).await.unwrap();
        let mut other = request;
        other.query.as_mut().unwrap().subject.as_mut().unwrap().name = REPRESENTATIVE.0.to_owned();
        said.error(&verify(&scene.centre, &other).await.err().unwrap());
        registry.stop().await;
    }
    batch_of_spoilt_questions(scene, said).await;
    // Nobody is there; the question is kept, sealed.
    let mut later = scene.question(ON_THE_REGISTER);
    later.complete_later = true;
    let answered = verify(&scene.centre, &later).await.unwrap();
    assert!(!answered.verification_id.is_empty());
    let get = proto::GetVerificationRequest {
        context: Some(scene.centre.context(purposes::AID_ELIGIBILITY)),
        verification_id: ON_THE_REGISTER.1.to_owned(),
    };
    said.error(&scene.centre.verification().get_verification(get).await.err().unwrap());
    let mut poverty = district::poverty_question(&scene.folder, &scene.centre);
    poverty.complete_later = true;
    let answered = district::verify_poverty(&scene.centre, &poverty).await.unwrap();
    assert!(!answered.verification_id.is_empty());
    poverty.envelope.as_mut().unwrap().request_id = scene.centre.request_id();
    poverty.query.as_mut().unwrap().village_code = ON_THE_REGISTER.1.to_owned();
    said.error(&district::verify_poverty(&scene.centre, &poverty).await.err().unwrap());
    let answered = verify(&scene.centre, &scene.question(ON_THE_REGISTER)).await.unwrap();
    assert_eq!(answered.answer.unwrap().result, VerificationResult::Unavailable as i32);
}

/// Each result says what is wrong, in the caller's own fields, and repeats none of their texts.
async fn batch_of_spoilt_questions(scene: &Scene, said: &mut Said) {
    use proto::batch_verify_request::Question;
    let spoilt = |spoil: fn(&mut proto::Envelope, &str)| {
        let mut question = scene.question(ON_THE_REGISTER);
        spoil(question.envelope.as_mut().unwrap(), ON_THE_REGISTER.1);
        Some(Question::LowIncome(question))
    };
    let questions = [
        None,
        spoilt(|envelope, text| text.clone_into(&mut envelope.request_id)),
        spoilt(|envelope, text| text.clone_into(&mut envelope.recipient)),
        spoilt(|envelope, _| ON_THE_REGISTER.0.clone_into(&mut envelope.purpose)),
    ];
    let context = scene.centre.context(purposes::AID_ELIGIBILITY);
    let mut context = Some(context);
    let messages = questions.map(|question| proto::BatchVerifyRequest { context: context.take(), question });
    let stream = tonic::codegen::tokio_stream::iter(messages);
    let mut results = scene.centre.verification().batch_verify(stream).await.unwrap().into_inner();
    let mut refused = 0;
    while let Some(result) = results.message().await.unwrap() {
        said.bytes.extend(result.encode_to_vec());
        refused += 1;
    }
    assert_eq!(refused, 3);
}

/// The whole way: sent, papers asked and handed in, decided by the court's script.
async fn fee_waiver_to_its_decision(scene: &Scene, matter: &str) {
    let mut request = scene.fee_waiver();
    request.envelope.as_mut().unwrap().matter_id = matter.to_owned();
    let exchange = submit(&scene.centre, &request).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, proto::ExchangeState::SupplementRequested).await;
    let note = format!("{}（{}）的代理人{}补交", ON_THE_REGISTER.0, ON_THE_REGISTER.1, REPRESENTATIVE.0);
    let mut supplement = answer(&scene.centre, &exchange, Arm::Supplement(proto::Supplement { note }));
    let envelope = supplement.envelope.as_mut().unwrap();
    envelope.operator.as_mut().unwrap().name = OPERATOR.to_owned();
    envelope.attachments.push(proto::Attachment {
        sha256: vec![0x5a; 32],
        name: format!("{}的委托书{PHONE}.pdf", ON_THE_REGISTER.0),
        media_type: "application/pdf".to_owned(),
        size_bytes: 1000,
        form_number: String::new(),
    });
    respond(&scene.centre, &supplement).await.unwrap();
    let decided = scene.await_state(&exchange.exchange_id, proto::ExchangeState::Decided).await;
    assert_eq!(decided.thread.len(), 5);
    assert!(!pull(&scene.centre).await.unwrap().deliveries.is_empty());
}

/// A paper about a person up and down, then the same spoilt, and watches from where none was.
async fn papers(scene: &Scene, said: &mut Said, digits_as_code: &str) {
    let paper = format!("{}，{}，电话{PHONE}\n", REPRESENTATIVE.0, REPRESENTATIVE.1);
    let sha256 = Sha256::digest(paper.as_bytes()).to_vec();
    let context = || Some(scene.centre.context(purposes::FEE_WAIVER));
    let first = || proto::UploadAttachmentRequest {
        context: context(),
        sha256: sha256.clone(),
        size_bytes: i64::try_from(paper.len()).unwrap(),
        media_type: "text/plain".to_owned(),
        name: format!("{}的委托书{PHONE}.txt", REPRESENTATIVE.0),
        offset: 0,
        data: paper.as_bytes().to_vec(),
    };
    let mut papers = scene.centre.attachments();
    papers.upload_attachment(tokio_stream::iter([first()])).await.unwrap();
    let request = proto::DownloadAttachmentRequest { context: context(), sha256: sha256.clone(), offset: 0 };
    let mut items = papers.download_attachment(request).await.unwrap().into_inner();
    while items.message().await.unwrap().is_some() {}
    for text in [ON_THE_REGISTER.0, ON_THE_REGISTER.1, PHONE, digits_as_code] {
        let spoilt = proto::UploadAttachmentRequest { media_type: text.to_owned(), ..first() };
        said.outcome(papers.upload_attachment(tokio_stream::iter([spoilt])).await);
        let spoilt = proto::UploadAttachmentRequest { sha256: text.as_bytes().to_vec(), ..first() };
        said.outcome(papers.upload_attachment(tokio_stream::iter([spoilt])).await);
        let spoilt = proto::UploadAttachmentRequest { sha256: vec![8; 32], name: text.to_owned(), ..first() };
        said.outcome(papers.upload_attachment(tokio_stream::iter([spoilt])).await);
        let request = proto::WatchExchangesRequest { context: context(), cursor: text.to_owned() };
        said.outcome(scene.centre.exchanges().watch_exchanges(request).await);
    }
}

/// Names and numbers in every text of a message, one text at a time and all at once.
async fn spoilt_calls(scene: &Scene, said: &mut Said, digits_as_code: &str) {
    type Spoil = fn(&mut proto::SubmitExchangeRequest, String);
    let texts: [Spoil; 22] = [
        |request, text| request.envelope.as_mut().unwrap().request_id = text,
        |request, text| request.envelope.as_mut().unwrap().matter_id = text,
        |request, text| request.envelope.as_mut().unwrap().sender = text,
        |request, text| request.envelope.as_mut().unwrap().recipient = text,
        |request, text| request.envelope.as_mut().unwrap().region = text,
        |request, text| request.envelope.as_mut().unwrap().purpose = text,
        |request, text| request.envelope.as_mut().unwrap().in_reply_to = text,
        |request, text| request.envelope.as_mut().unwrap().legal_basis[0].law = text,
        |request, text| request.envelope.as_mut().unwrap().legal_basis[0].article = text,
        |request, text| operator(request).staff_number = text,
        |request, text| operator(request).name = text,
        |request, text| operator(request).unit = text,
        |request, text| waiver(request).reason = text,
        |request, text| waiver(request).court_case.as_mut().unwrap().court = text,
        |request, text| waiver(request).court_case.as_mut().unwrap().case_number = text,
        |request, text| waiver(request).court_case.as_mut().unwrap().cause_of_action = text,
        |request, text| waiver(request).aid_decision.as_mut().unwrap().number = text,
        |request, text| waiver(request).aid_decision.as_mut().unwrap().centre = text,
        |request, text| waiver(request).applicant.as_mut().unwrap().name = text,
        |request, text| waiver(request).applicant.as_mut().unwrap().id_number = text,
        |request, text| waiver(request).applicant.as_mut().unwrap().phone = text,
        |request, text| waiver(request).applicant.as_mut().unwrap().household_region = text,
    ];
    let (name, number) = ON_THE_REGISTER;
    for text in [name, number, REPRESENTATIVE.1, PHONE, digits_as_code] {
        let mut all = scene.fee_waiver();
        for spoil in texts {
            let mut one = scene.fee_waiver();
            spoil(&mut one, text.to_owned());
            said.outcome(submit(&scene.centre, &one).await);
            spoil(&mut all, text.to_owned());
        }
        said.outcome(submit(&scene.centre, &all).await);

        let mut question = scene.question(ON_THE_REGISTER);
        question.envelope.as_mut().unwrap().recipient = text.to_owned();
        said.outcome(verify(&scene.centre, &question).await);
        said.outcome(get(&scene.centre, text).await);
        let list = proto::ListExchangesRequest {
            context: Some(scene.centre.context(purposes::FEE_WAIVER)),
            matter_id: text.to_owned(),
            page_token: text.to_owned(),
            ..Default::default()
        };
        said.outcome(scene.centre.exchanges().list_exchanges(list).await);
        let filter = proto::EntryFilter {
            caller: text.to_owned(),
            method: text.to_owned(),
            matter_id: text.to_owned(),
            exchange_id: text.to_owned(),
            ..Default::default()
        };
        let list = proto::ListEntriesRequest {
            context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(filter),
            page_token: text.to_owned(),
            ..Default::default()
        };
        said.outcome(scene.auditor.audit().list_entries(list).await);
    }
    // What is wrong beside what is personal.
    let mut request = scene.fee_waiver();
    let applicant = waiver(&mut request).applicant.as_mut().unwrap();
    applicant.id_number = "331004198001010017".to_owned();
    applicant.birth_date = Some(wire_date(day_from_today(&scene.clock, 1)));
    let status = submit(&scene.centre, &request).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    said.error(&status);
}

/// The examples of the kinds and of their answers, each as it is and then with a number in each of its texts.
async fn every_text_of_the_kinds(scene: &Scene, said: &mut Said) {
    let pages = [
        ("judicial-relief", "centre", None),
        ("appeal-referral", "centre", None),
        ("counsel-notice", "court", Some("centre")),
        ("direct-assignment-report", "court", Some("centre")),
        ("cooperation-request", "centre", Some("neighbour")),
    ];
    for (page, sender, answers) in pages {
        let client = |name: &str| {
            AgencyClient::load(&scene.folder.join(format!("{name}.toml")), scene.clock.clone()).unwrap()
        };
        let sender = client(sender);
        let mut opened = None;
        for json in spoilt_texts(&example_json(page, 0)) {
            let Ok(mut request) = from_json::<proto::SubmitExchangeRequest>("SubmitExchangeRequest", &json)
            else {
                continue;
            };
            request.envelope = Some(sender.complete(request.envelope.unwrap()));
            let envelope = request.envelope.clone().unwrap();
            match submit(&sender, &request).await {
                Ok(answer) => _ = opened.get_or_insert((answer.exchange.unwrap(), envelope)),
                Err(status) => said.error(&status),
            }
        }
        let (exchange, asked) = opened.expect("the example is taken as it is");
        let Some(answers) = answers.map(client) else { continue };
        for json in spoilt_texts(&example_json(page, 1)) {
            let Ok(response) = from_json::<proto::Response>("Response", &json) else { continue };
            let envelope = answers.complete(proto::Envelope {
                recipient: exchange.sender.clone(),
                in_reply_to: exchange.exchange_id.clone(),
                request_id: String::new(),
                sender: String::new(),
                ..asked.clone()
            });
            let request =
                proto::RespondToExchangeRequest { envelope: Some(envelope), response: Some(response) };
            said.outcome(respond(&answers, &request).await);
        }
    }
}

/// A piece of JSON as it is, and once for each text in it with a number in the text's place.
fn spoilt_texts(json: &str) -> Vec<String> {
    fn texts(value: &serde_json::Value, way: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(_) => found.push(way.to_owned()),
            serde_json::Value::Array(values) => {
                values.iter().enumerate().for_each(|(at, value)| texts(value, &format!("{way}/{at}"), found));
            }
            serde_json::Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| texts(value, &format!("{way}/{name}"), found));
            }
            _ => {}
        }
    }
    let sound: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut ways = Vec::new();
    texts(&sound, "", &mut ways);
    let spoilt = ways.iter().map(|way| {
        let mut value = sound.clone();
        *value.pointer_mut(way).unwrap() = NOT_ON_THE_REGISTER.1.into();
        value.to_string()
    });
    std::iter::once(json.to_owned()).chain(spoilt).collect()
}

/// What stands around a message, and messages that are none.
async fn spoilt_paths_and_headers(scene: &Scene, said: &mut Said) {
    let raw = Raw::connect(&scene.centre_profile).await;
    let path = path_of(Method::VerifyLowIncome);
    let (name, number) = ON_THE_REGISTER;
    let message = || scene.question(ON_THE_REGISTER).encode_to_vec();
    let padded = format!("00-{number}{}-b7ad6b7169203331-01", "0".repeat(14));
    for (header, value) in [
        ("traceparent", padded.as_str()),
        ("traceparent", number),
        ("tracestate", number),
        ("grpc-timeout", number),
        ("user-agent", number),
        ("grpc-encoding", number),
        ("x-applicant", name),
        ("baggage", number),
    ] {
        said.status(&raw.call(&path, &message(), &[(header, value)]).await.status);
    }
    for path in [
        format!("/legalaid.exchange.v1.VerificationService/{number}"),
        format!("/{number}"),
        format!("/{}?id={number}&phone={PHONE}", HEXLOWER.encode(name.as_bytes())),
        format!("/grpc.health.v1.Health/{number}"),
    ] {
        said.status(&raw.call(&path, &message(), &[]).await.status);
    }
    let health = [&[0x0a, 18], number.as_bytes()].concat();
    said.status(&raw.call("/grpc.health.v1.Health/Check", &health, &[]).await.status);
    let mut cut_off = message();
    cut_off.truncate(cut_off.len() - 3);
    said.status(&raw.call(&path, &cut_off, &[]).await.status);
    said.status(&raw.call(&path, name.as_bytes(), &[]).await.status);
    let json = [("content-type", "application/json")];
    let body = format!(r#"{{"name": "{name}", "idNumber": "{number}"}}"#);
    said.status(&raw.send(http::Method::POST, &path, &json, body.into()).await.status);
    let type_of_number = [("content-type", number)];
    said.status(&raw.send(http::Method::POST, &path, &type_of_number, frame(&message())).await.status);
    send_malformed_path(&scene.centre_profile, &format!("/{name} {number}")).await;
    for method in [number, "GET"] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        said.status(&raw.send(method, &path, &[], frame(&message())).await.status);
    }
}

fn operator(request: &mut proto::SubmitExchangeRequest) -> &mut proto::Operator {
    request.envelope.as_mut().unwrap().operator.as_mut().unwrap()
}

/// One resident number in 31 has the check character of a credit code.
fn number_that_passes_as_credit_code() -> String {
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let number = |sequence: u32| {
        let digits = format!("33100419750615{sequence:03}");
        let sum: u32 =
            digits.bytes().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
        format!("{digits}{}", ["1", "0", "X", "9", "8", "7", "6", "5", "4", "3", "2"][(sum % 11) as usize])
    };
    (1..1000).map(number).find(|number| CreditCode::parse(number).is_ok()).unwrap()
}

// ---- where it is asked -------------------------------------------------------------------------------------------

/// The real gateway in a process of its own, its agencies in this one.
struct Scene {
    gateway: Process,
    folder: PathBuf,
    temporary: TempDir,
    clock: Clock,
    centre: AgencyClient,
    centre_profile: Profile,
    auditor: AgencyClient,
    court: Serving,
}

impl Scene {
    async fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("district");
        let clock = Clock::system();
        District::prepare(&folder, Script::SupplementThenDefer, &clock).unwrap();
        let court = court::serve_file(&folder.join("simulate-court.toml"), clock.clone()).await.unwrap();
        let file = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
        let gateway = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
            .args(["serve", "--config"])
            .arg(folder.join("gateway.toml"))
            .env("RUST_LOG", "trace,h2=trace,hyper=trace,tonic=trace,sqlx=trace,rustls=trace,tower=trace")
            .env("RUST_BACKTRACE", "full")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        let gateway = Process(Some(gateway));
        let load = |name: &str| Profile::load(&folder.join(format!("{name}.toml"))).unwrap();
        let client = |name: &str| AgencyClient::new(load(name), clock.clone()).unwrap();
        let scene = Self {
            gateway,
            centre: client("centre"),
            centre_profile: load("centre"),
            auditor: client("auditor"),
            folder,
            temporary,
            clock,
            court,
        };
        let out = String::from_utf8(await_file(&scene.folder.join("out"))).unwrap();
        assert!(out.starts_with("listening on"), "{out}");
        scene
    }

    /// Ends the gateway in order; what it wrote is in the folder, as long as that is kept.
    async fn stop(mut self) -> TempDir {
        let mut gateway = self.gateway.0.take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || gateway.wait().unwrap());
        assert!(ended.await.unwrap().success());
        self.court.stop().await;
        self.temporary
    }

    async fn registry(&self, behaviour: Behaviour) -> Serving {
        let text = std::fs::read_to_string(self.folder.join("simulate-registry.toml")).unwrap();
        let mut config: RegistryConfig = toml::from_str(&text).unwrap();
        config.behaviour = behaviour;
        config.profile = self.folder.join("registry.toml");
        registry::serve_config(config, self.clock.clone()).await.unwrap()
    }

    fn question(&self, (name, number): (&str, &str)) -> proto::VerifyLowIncomeRequest {
        let mut request = district::question(&self.folder, &self.centre);
        request.envelope.as_mut().unwrap().operator.as_mut().unwrap().name = OPERATOR.to_owned();
        let subject = request.query.as_mut().unwrap().subject.as_mut().unwrap();
        name.clone_into(&mut subject.name);
        number.clone_into(&mut subject.id_number);
        request
    }

    fn fee_waiver(&self) -> proto::SubmitExchangeRequest {
        let mut request = district::fee_waiver(&self.folder, &self.centre);
        request.envelope.as_mut().unwrap().legal_basis.push(basis("某省法律援助条例", "7"));
        operator(&mut request).name = OPERATOR.to_owned();
        let asked = waiver(&mut request);
        asked.claimed_sum_fen = Some(FIGURES[0]);
        asked.fee_fen = Some(FIGURES[1]);
        asked.reason = format!("{}无力预交，电话{PHONE}", ON_THE_REGISTER.0);
        let applicant = asked.applicant.as_mut().unwrap();
        applicant.phone = PHONE.to_owned();
        applicant.birth_date = Some(wire_date(jiff::civil::date(1980, 1, 1)));
        applicant.representative = Some(proto::Representative {
            name: REPRESENTATIVE.0.to_owned(),
            id_kind: proto::IdKind::ResidentId.into(),
            id_number: REPRESENTATIVE.1.to_owned(),
            relation: proto::Relation::NearRelative.into(),
            basis: proto::RepresentationBasis::Entrusted.into(),
        });
        request
    }

    async fn await_state(&self, exchange_id: &str, state: proto::ExchangeState) -> proto::Exchange {
        let started = Instant::now();
        loop {
            let exchange = get(&self.centre, exchange_id).await.unwrap().exchange.unwrap();
            if exchange.state == state as i32 {
                return exchange;
            }
            assert!(started.elapsed() < DEADLINE, "the court did not come to {}", state.as_str_name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a command of the binary in the folder; what it prints goes to a file there.
    fn audit_cli(&self, arguments: &[&str], output: &str) {
        let done = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
            .args(arguments)
            .current_dir(&self.folder)
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = [done.stdout, done.stderr, b"LQ-2026-0777".to_vec()].concat();
        std::fs::write(self.folder.join(output), text).unwrap();
    }
}

/// A process that does not outlive a test that fails.
struct Process(Option<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the gateway said of errors: texts, details and headers.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
}

impl Said {
    fn error(&mut self, status: &Status) {
        assert_ne!(status.code(), Code::Ok);
        self.status(status);
    }

    fn outcome<T>(&mut self, outcome: Result<T, Status>) {
        if let Err(status) = outcome {
            self.status(&status);
        }
    }

    fn status(&mut self, status: &Status) {
        self.bytes.extend_from_slice(status.message().as_bytes());
        self.bytes.extend_from_slice(status.details());
        for (name, value) in status.metadata().as_ref() {
            self.bytes.extend_from_slice(name.as_str().as_bytes());
            self.bytes.extend_from_slice(value.as_bytes());
            self.bytes.push(b'\n');
        }
    }
}

/// Waits until a file has something in it: the gateway gives no other sign.
fn await_file(path: &Path) -> Vec<u8> {
    let started = Instant::now();
    loop {
        match std::fs::read(path) {
            Ok(bytes) if !bytes.is_empty() => return bytes,
            _ => assert!(started.elapsed() < DEADLINE, "{} stays empty", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

// ---- the search --------------------------------------------------------------------------------------------------

/// Whether `text` stands in `bytes`: as it is, escaped as in JSON or a path, in hexadecimal, in UTF-16, or in base64 at
/// whatever offset.
fn find(bytes: &[u8], text: &str) -> bool {
    spellings(text).iter().any(|spelling| position(bytes, spelling).is_some())
}

fn around(bytes: &[u8], text: &str) -> String {
    let at = spellings(text).iter().find_map(|spelling| position(bytes, spelling)).unwrap_or_default();
    let (from, to) = (at.saturating_sub(200), bytes.len().min(at + 200));
    String::from_utf8_lossy(&bytes[from..to]).into_owned()
}

fn spellings(text: &str) -> Vec<Vec<u8>> {
    let raw = text.as_bytes();
    let mut spellings = vec![
        raw.to_vec(),
        HEXLOWER.encode(raw).into_bytes(),
        HEXUPPER.encode(raw).into_bytes(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        text.to_lowercase().into_bytes(),
    ];
    if !text.is_ascii() {
        // \u5f20, \u{5f20}, \xe5\xbc\xa0, \345\274\240, %E5%BC%A0
        spellings.push(text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>().into());
        spellings.push(text.chars().map(|c| format!("\\u{{{:x}}}", c as u32)).collect::<String>().into());
        spellings.push(raw.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>().into());
        spellings.push(raw.iter().map(|byte| format!("\\\\x{byte:02x}")).collect::<String>().into());
        spellings.push(raw.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>().into());
        spellings.push(raw.iter().map(|byte| format!("%{byte:02X}")).collect::<String>().into());
    }
    // Debug of bytes: 51, 51, 49
    let listed: Vec<_> = raw.iter().map(ToString::to_string).collect();
    spellings.push(listed.join(", ").into_bytes());
    for offset in 0..3 {
        let shifted = [&vec![0; offset][..], raw].concat();
        for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
            let encoded = encoding.encode(&shifted);
            // Characters that depend on what stands before and after are left out.
            let first = (offset * 8).div_ceil(6);
            let last = (shifted.len() * 8) / 6;
            spellings.push(encoded.as_bytes()[first..last].to_vec());
        }
    }
    spellings
}

fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let first = *text.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if bytes[at..].starts_with(text) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

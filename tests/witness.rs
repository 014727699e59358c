//! Witnesses: what they sign and refuse, what a gateway does without them, and how a log that forgets, or has two
//! histories, is found out. Real gateways, real witnesses, real TLS, real files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::cosignature::{CosignerKey, CosigningKey};
use legal_aid_gateway::audit::merkle::empty_root;
use legal_aid_gateway::audit::note::{SigningKey, VerifyingKey};
use legal_aid_gateway::audit::witness::AddCheckpoint;
use legal_aid_gateway::client::Profile;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::{WitnessSection, WitnessedLog};
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::identity::credentials::Credentials;
use legal_aid_gateway::identity::development::{DevelopmentAuthority, IssuedCertificate};
use legal_aid_gateway::identity::dialler::{Dialler, Endpoint};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::free_address;
use legal_aid_gateway::witness::Witness;
use legal_aid_gateway::witness::client::{Answer, WitnessClient};
use sqlx::Connection as _;
use support::{BEGINNING, DEADLINE, Folder, Gateway, PATIENCE, log};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

const DATABASE_FILES: [&str; 3] = ["gateway.db", "gateway.db-wal", "gateway.db-shm"];

/// A witness with the certificate of one of the folder's agencies.
struct Stand {
    section: WitnessSection,
    key: CosignerKey,
    profile: Profile,
    running: Option<Witness>,
}

impl Stand {
    /// Not running yet.
    fn of(folder: &Folder, agency: &str, number: u8) -> Self {
        let home = folder.file(&format!("witness-{agency}"));
        fs::create_dir(&home).unwrap();
        let key = CosigningKey::from_seed(&format!("{agency}.example/witness"), &[number; 32]).unwrap();
        let path = home.join("witness.key");
        legal_aid_gateway::identity::key_file::create(&path, &key.encode()).unwrap();
        let section = WitnessSection {
            listen: free_address().unwrap(),
            key: path,
            state: home.join("state"),
            logs: vec![WitnessedLog {
                key: log_key(folder).to_string(),
                agency: CreditCode::parse(codes::GATEWAY).unwrap(),
            }],
        };
        let profile = Profile::load(&folder.file(&format!("{agency}.toml"))).unwrap();
        Self { section, key: key.cosigner_key().clone(), profile, running: None }
    }

    async fn run(&mut self) {
        let credentials = self.profile.credentials().unwrap();
        self.running = Some(Witness::start(&self.section, &credentials, Clock::system()).await.unwrap());
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// Its table in a gateway's configuration.
    fn entry(&self) -> String {
        format!(
            "[[audit.witnesses.witness]]\nkey = \"{}\"\nagency = \"{}\"\naddress = \"{}\"\nserver_name = \"localhost\"\n",
            self.key, self.profile.agency, self.section.listen
        )
    }

    /// Size of the checkpoint that it holds.
    fn size(&self) -> u64 {
        let note = fs::read_dir(&self.section.state)
            .unwrap()
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "checkpoint"))
            .map(|path| fs::read_to_string(path).unwrap());
        note.map_or(0, |note| note.lines().nth(1).unwrap().parse().unwrap())
    }

    async fn comes_to(&self, size: u64) {
        until(|| self.size() == size).await;
    }

    /// Evidence that it keeps: what it held, and what it was shown.
    fn evidence(&self) -> Vec<(PathBuf, PathBuf)> {
        let files = fs::read_dir(self.section.state.join("evidence")).unwrap();
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "held"))
            .map(|held| (held.clone(), held.with_extension("presented")))
            .collect()
    }
}

fn endpoint(address: SocketAddr, agency: CreditCode) -> Endpoint {
    Endpoint { address: address.to_string(), server_name: "localhost".to_owned(), agency }
}

/// The way of the folder's gateway to a witness.
fn witness_client(folder: &Folder, endpoint: &Endpoint) -> WitnessClient {
    let tls = folder.file("tls");
    let [certificate, key, authority] =
        ["gateway.crt.pem", "gateway.key.pem", "authority.crt.pem"].map(|name| tls.join(name));
    let credentials = Credentials::load(&certificate, &key, &authority).unwrap();
    WitnessClient::new(&Dialler::new(&credentials, Clock::system()), endpoint).unwrap()
}

/// Waits for what has no event to wait for.
async fn until(mut there: impl FnMut() -> bool) {
    let waiting = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes");
}

fn signing_key(folder: &Folder) -> SigningKey {
    SigningKey::parse(fs::read_to_string(folder.file("keys/log.key")).unwrap().trim()).unwrap()
}

fn log_key(folder: &Folder) -> VerifyingKey {
    signing_key(folder).verifying_key().clone()
}

/// Adds a policy to the gateway's configuration.
fn configure(folder: &Folder, policy: &str, witnesses: &[&Stand]) {
    let path = folder.file("gateway.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(&format!(
        "\n[audit.witnesses]\nsubmit_every = \"50ms\"\nlongest_retry = \"200ms\"\n{policy}\n"
    ));
    for witness in witnesses {
        text.push_str(&witness.entry());
    }
    fs::write(path, text).unwrap();
}

/// Writes so many entries, and gives the last answer.
async fn write_entries(folder: &Folder, count: u64) -> proto::GetCheckpointResponse {
    let auditor = folder.client("auditor");
    let mut last = None;
    for _ in 0..count {
        let request =
            proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
        let answer = auditor.audit().get_checkpoint(auditor.request(request, DEADLINE)).await.unwrap();
        last = Some(answer.into_inner());
    }
    last.unwrap()
}

/// The database and the checkpoint beside it, copied to a folder.
fn back_up(folder: &Folder, name: &str) {
    fs::create_dir(folder.file(name)).unwrap();
    for file in DATABASE_FILES.iter().chain(&["checkpoint"]) {
        let _ = fs::copy(folder.file(file), folder.file(name).join(file));
    }
}

fn restore(folder: &Folder, name: &str) {
    remove_database(folder);
    for file in DATABASE_FILES.iter().chain(&["checkpoint"]) {
        let _ = fs::copy(folder.file(name).join(file), folder.file(file));
    }
}

/// Removes the database, and what would betray it beside it.
fn remove_database(folder: &Folder) {
    for file in DATABASE_FILES.iter().chain(&["checkpoint"]) {
        let _ = fs::remove_file(folder.file(file));
    }
}

async fn refused(folder: &Folder) -> String {
    let refused = Gateway::try_start(folder, &[]).await.err().expect("the start is refused");
    assert_eq!(refused.exit_code, Some(1), "{refused:?}");
    refused.said
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn checkpoints_with_a_quorum_are_served_and_verified_although_one_witness_is_dead() {
    let folder = Folder::prepare(Script::TakeOnly);
    let mut first = Stand::of(&folder, "auditor", 1);
    let mut second = Stand::of(&folder, "neighbour", 2);
    let dead = Stand::of(&folder, "stranger", 3);
    first.run().await;
    second.run().await;
    configure(&folder, "quorum = 2", &[&first, &second, &dead]);
    let gateway = Gateway::start(&folder).await;
    write_entries(&folder, 5).await;
    first.comes_to(BEGINNING + 5).await;
    second.comes_to(BEGINNING + 5).await;
    let (mut entries, mut answer) = (BEGINNING + 6, write_entries(&folder, 1).await);
    let size = |note: &str| Checkpoint::open(note, &log_key(&folder)).unwrap().size;
    while size(&answer.cosigned_checkpoint) < 5 {
        (entries, answer) = (entries + 1, write_entries(&folder, 1).await);
    }
    assert!(size(&answer.cosigned_checkpoint) <= size(&answer.checkpoint));
    for witness in [&first, &second] {
        witness.key.find(&answer.cosigned_checkpoint).unwrap();
    }
    second.comes_to(entries).await;
    first.comes_to(entries).await;

    // What the database keeps lasts beyond the gateway, and beyond the witnesses.
    let file = folder.file("export.jsonl");
    let export = folder.run(&["audit", "export", "--as", "auditor.toml", "--out", "export.jsonl"]).await;
    assert!(export.status.success() && file.exists(), "{}", said(&export));
    gateway.stop().await;
    let (key, one, two, three) =
        (log_key(&folder).to_string(), first.key.to_string(), second.key.to_string(), dead.key.to_string());
    for log in ["gateway.db", "export.jsonl"] {
        let arguments = ["audit", "verify", log, "--key", &key, "--witness", &one, "--witness", &two];
        let sound = folder.run(&[&arguments[..], &["--quorum", "2"]].concat()).await;
        assert!(sound.status.success(), "{}", said(&sound));
        assert!(said(&sound).contains("witness auditor.example/witness signed"), "{}", said(&sound));
        let with_dead = [&arguments[..], &["--witness", &three, "--quorum", "3"]].concat();
        let short = folder.run(&with_dead).await;
        assert_eq!(short.status.code(), Some(1), "{}", said(&short));
        assert!(said(&short).contains("WRONG: no checkpoint has the cosignatures of 3"), "{}", said(&short));
        assert!(said(&short).contains("witness stranger.example/witness has signed no checkpoint"));
    }
    // One party under two names is one.
    let twin = CosigningKey::from_seed("twin.example", &[1; 32]).unwrap().cosigner_key().to_string();
    let twice = ["audit", "verify", "gateway.db", "--key", &key, "--witness", &one, "--witness", &twin];
    let twice = folder.run(&twice).await;
    assert!(said(&twice).contains("must be of different parties"), "{}", said(&twice));

    first.stop().await;
    second.stop().await;
    let gateway = Gateway::start(&folder).await;
    let answer = write_entries(&folder, 1).await;
    assert!(Checkpoint::open(&answer.cosigned_checkpoint, &log_key(&folder)).unwrap().size >= entries);
    gateway.stop().await;
}

#[tokio::test]
async fn witnesses_that_are_down_never_stop_exchange_unless_the_policy_says_so() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    let down = Stand::of(&folder, "auditor", 1);
    configure(&folder, "warn_after = \"500ms\"", &[&down]);
    let gateway = Gateway::start(&folder).await;
    write_entries(&folder, 1).await;
    until(|| gateway.said().contains("the witnesses lag behind")).await;
    let centre = folder.client("centre");
    let request = centre.request(folder.question(&centre), DEADLINE);
    centre.verification().verify_low_income(request).await.unwrap();
    assert!(gateway.said().contains("auditor.example/witness at 0"), "{}", gateway.said());
    gateway.stop().await;
    registry.stop().await;
}

#[tokio::test]
async fn past_the_second_limit_no_work_is_taken_auditors_read_on_and_it_goes_on_by_itself() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    let mut witness = Stand::of(&folder, "auditor", 1);
    configure(&folder, "warn_after = \"500ms\"\nstop_after = \"1500ms\"", &[&witness]);
    let metrics = free_address().unwrap().to_string();
    let gateway = Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY__METRICS__LISTEN", &metrics)]).await;
    let centre = folder.client("centre");
    let question = folder.question(&centre);
    let ask = |question: &proto::VerifyLowIncomeRequest| {
        let (client, request) = (centre.clone(), centre.request(question.clone(), DEADLINE));
        async move { client.verification().verify_low_income(request).await }
    };
    ask(&question).await.expect("before the limit work is taken");
    until(|| gateway.said().contains("no new work is taken")).await;

    let refused = ask(&folder.question(&centre)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "WITNESS_LAG");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let again = ask(&question).await.expect("what was answered already is answered again");
    assert!(again.into_inner().audit.is_some());
    write_entries(&folder, 1).await;
    let health = |service: &'static str| {
        let profile = centre.profile().clone();
        async move {
            let dialler = Dialler::new(&profile.credentials().unwrap(), Clock::system());
            let mut client = HealthClient::new(dialler.channel(&profile.endpoint()).unwrap());
            let mut request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
            request.set_timeout(DEADLINE);
            client.check(request).await.unwrap().into_inner().status()
        }
    };
    while health("legalaid.exchange.v1.VerificationService").await != ServingStatus::NotServing {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(health("legalaid.exchange.v1.AuditService").await, ServingStatus::Serving);
    let measured = scrape(&metrics).await;
    assert!(measured.contains("legal_aid_witness_stopped 1"), "{measured}");
    assert!(
        measured.contains("legal_aid_witness_entries{witness=\"auditor.example/witness\"} 0"),
        "{measured}"
    );

    witness.run().await;
    until(|| gateway.said().contains("work is taken again")).await;
    ask(&folder.question(&centre)).await.expect("work goes on when the witness is back");
    while health("legalaid.exchange.v1.VerificationService").await != ServingStatus::Serving {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(scrape(&metrics).await.contains("legal_aid_witness_stopped 0"));
    gateway.stop().await;
    registry.stop().await;
}

/// A gateway's folder, whose log has three entries, and the witness that has cosigned them.
async fn cosigned() -> (Folder, Stand) {
    let folder = Folder::prepare(Script::TakeOnly);
    let mut witness = Stand::of(&folder, "auditor", 1);
    witness.run().await;
    configure(&folder, "", &[&witness]);
    let gateway = Gateway::start(&folder).await;
    write_entries(&folder, 3).await;
    witness.comes_to(BEGINNING + 3).await;
    gateway.stop().await;
    (folder, witness)
}

async fn scrape(address: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_restored_backup_is_refused_at_start_by_what_a_witness_knows_and_goes_on_only_when_told_to() {
    let (folder, witness) = cosigned().await;
    back_up(&folder, "backup");
    let gateway = Gateway::start(&folder).await;
    write_entries(&folder, 2).await;
    witness.comes_to(BEGINNING + 5).await;
    gateway.stop().await;

    // The checkpoint beside the database is restored with it: only the witness still knows.
    restore(&folder, "backup");
    let said = refused(&folder).await;
    assert!(
        said.contains(&format!(
            "has cosigned {} entries of this log, the database has {}",
            BEGINNING + 5,
            BEGINNING + 3
        )),
        "{said}"
    );
    assert!(said.contains("restored backup") && said.contains("docs/witnesses.md"), "{said}");

    // A wrong number is no acceptance; the right one is, once, and stands in the log.
    let accept = |entries: &'static str| [("LEGAL_AID_GATEWAY__AUDIT__ACCEPT_ROLLBACK", entries)];
    assert!(Gateway::try_start(&folder, &accept("17")).await.is_err());
    let gateway = Gateway::start_with(&folder, &accept("16")).await;
    assert!(gateway.said().contains("ROLLBACK ACCEPTED"), "{}", gateway.said());
    let key = gateway.log_key.clone();
    gateway.stop().await;
    assert!(folder.file("checkpoint.before-rollback-to-16").exists(), "the old checkpoint is evidence");
    let written = log::read(&folder.database(), &key, &[]).await;
    assert!(written.report.is_sound());
    assert_eq!(written.entries[16].reason.as_deref(), Some("ROLLBACK_ACCEPTED"));
    assert!(Gateway::try_start(&folder, &accept("16")).await.is_err(), "it holds for one start");
}

#[tokio::test]
async fn a_database_replaced_by_a_new_one_is_refused_at_start_under_the_same_key_and_under_another() {
    let (folder, _witness) = cosigned().await;
    back_up(&folder, "real");

    remove_database(&folder);
    let said = refused(&folder).await;
    assert!(
        said.contains(&format!("has cosigned {} entries of this log, the database has 0", BEGINNING + 3)),
        "{said}"
    );

    // Another key under the same origin: the witness does not know it, and the old log does not verify under it.
    restore(&folder, "real");
    let kept = fs::read(folder.file("keys/log.key")).unwrap();
    let other = SigningKey::from_seed(log_key(&folder).name(), &[8; 32]).unwrap();
    fs::write(folder.file("keys/log.key"), other.encode().as_bytes()).unwrap();
    let said = refused(&folder).await;
    assert!(said.contains("does not verify under the log key"), "{said}");
    fs::write(folder.file("keys/log.key"), kept).unwrap();
    Gateway::start(&folder).await.stop().await;
}

#[tokio::test]
async fn a_truncated_log_is_refused_at_start_by_what_the_database_itself_still_holds() {
    let (folder, mut witness) = cosigned().await;
    back_up(&folder, "shorter");
    let gateway = Gateway::start(&folder).await;
    write_entries(&folder, 2).await;
    witness.comes_to(BEGINNING + 5).await;
    while log_keeps(&folder).await < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.stop().await;
    // From here on nobody outside is there to tell.
    witness.stop().await;
    back_up(&folder, "whole");

    // Only the entries.
    let _ = fs::remove_file(folder.file("checkpoint"));
    tamper(&folder, "DELETE FROM audit_entries WHERE idx >= 16").await;
    let said = refused(&folder).await;
    assert!(said.contains("entry 16 is missing"), "{said}");

    // All of the log's tables, put back to where they were; the cosignatures stay.
    restore(&folder, "whole");
    let _ = fs::remove_file(folder.file("checkpoint"));
    let shorter = folder.file("shorter/gateway.db");
    tamper(
        &folder,
        &format!(
            "ATTACH '{}' AS shorter; \
             DELETE FROM audit_entries; INSERT INTO audit_entries SELECT * FROM shorter.audit_entries; \
             DELETE FROM audit_tiles; INSERT INTO audit_tiles SELECT * FROM shorter.audit_tiles; \
             DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM shorter.audit_head;",
            shorter.display()
        ),
    )
    .await;
    let said = refused(&folder).await;
    assert!(
        said.contains(&format!("covers {} entries, the database has {}", BEGINNING + 5, BEGINNING + 3)),
        "{said}"
    );
}

/// Entries of the largest cosigned checkpoint in the database.
async fn log_keeps(folder: &Folder) -> i64 {
    let mut connection = log::connect(&folder.database()).await;
    let size = sqlx::query_scalar("SELECT coalesce(max(size), 0) FROM audit_cosignatures");
    let size = size.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    size
}

async fn tamper(folder: &Folder, statements: &str) {
    let mut connection = log::connect(&folder.database()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_second_history_under_one_key_is_refused_by_the_witness_and_proven_by_what_it_keeps() {
    let folder = Folder::prepare(Script::TakeOnly);
    let mut witness = Stand::of(&folder, "auditor", 1);
    witness.run().await;
    configure(&folder, "", &[&witness]);
    let first = Gateway::start(&folder).await;
    write_entries(&folder, 5).await;
    witness.comes_to(BEGINNING + 5).await;
    first.stop().await;

    // The second gateway has the same key and origin, and a history of its own from before it met the witness.
    remove_database(&folder);
    let configured = fs::read_to_string(folder.file("gateway.toml")).unwrap();
    let alone = configured.split("\n[audit.witnesses]").next().unwrap().to_owned();
    fs::write(folder.file("gateway.toml"), &alone).unwrap();
    let second = Gateway::start(&folder).await;
    write_entries(&folder, 7).await;
    second.stop().await;
    fs::write(folder.file("gateway.toml"), &configured).unwrap();
    let said_at_start = refused(&folder).await;
    assert!(said_at_start.contains("holds another history of this log"), "{said_at_start}");
    assert!(said_at_start.contains("second gateway"), "{said_at_start}");
    assert_eq!(witness.size(), BEGINNING + 5, "the witness keeps what it signed");

    // Met while it runs, it is shown as well.
    witness.stop().await;
    let second = Gateway::start(&folder).await;
    witness.run().await;
    until(|| second.said().contains("holds another history of this log")).await;
    second.stop().await;

    let evidence = witness.evidence();
    assert_eq!(evidence.len(), 1, "the same evidence is kept once");
    let (held, presented) = &evidence[0];
    let key = log_key(&folder).to_string();
    let proven = verify_fork(&folder, held, presented, &key).await;
    assert!(proven.status.success() && said(&proven).contains("FORK PROVEN"), "{}", said(&proven));
    let swapped = verify_fork(&folder, presented, held, &key).await;
    assert!(swapped.status.success(), "{}", said(&swapped));

    // Neither one checkpoint twice, nor another key, convicts anybody.
    let alike = verify_fork(&folder, held, held, &key).await;
    assert_eq!(alike.status.code(), Some(1), "{}", said(&alike));
    assert!(said(&alike).contains("of one history"), "{}", said(&alike));
    let other = SigningKey::from_seed(log_key(&folder).name(), &[8; 32]).unwrap().verifying_key().to_string();
    let other = verify_fork(&folder, held, presented, &other).await;
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));

    // At one size no proof is needed.
    let key = signing_key(&folder);
    let (origin, root) = (key.name().to_owned(), empty_root());
    let forged = Checkpoint { origin, size: BEGINNING + 5, root, extensions: Vec::new() }.sign(&key).unwrap();
    fs::write(folder.file("forged"), forged).unwrap();
    let proven = verify_fork(&folder, held, Path::new("forged"), &log_key(&folder).to_string()).await;
    assert!(proven.status.success() && said(&proven).contains("at 18 entries"), "{}", said(&proven));
}

async fn verify_fork(folder: &Folder, one: &Path, other: &Path, key: &str) -> std::process::Output {
    let (one, other) = (one.display().to_string(), other.display().to_string());
    folder.run(&["audit", "verify-fork", &one, &other, "--key", key]).await
}

#[tokio::test]
async fn a_witness_answers_each_request_as_the_specification_says() {
    let folder = Folder::prepare(Script::TakeOnly);
    let mut witness = Stand::of(&folder, "auditor", 1);
    witness.run().await;
    let endpoint = endpoint(witness.section.listen, witness.profile.agency);
    let client = witness_client(&folder, &endpoint);
    let key = signing_key(&folder);
    let sign = |key: &SigningKey, size: u64| {
        let (origin, root) = (key.name().to_owned(), empty_root());
        Checkpoint { origin, size, root, extensions: Vec::new() }.sign(key).unwrap()
    };
    let ask = |old_size, checkpoint| {
        let request = AddCheckpoint { old_size, proof: Vec::new(), checkpoint };
        let client = client.clone();
        async move { client.add_checkpoint(&request).await.unwrap() }
    };
    let refused = |answer| match answer {
        Answer::Refused(status, _) => status.as_u16(),
        other => panic!("{other:?}"),
    };
    let unknown = SigningKey::from_seed("unknown.example", &[1; 32]).unwrap();
    assert_eq!(refused(ask(0, sign(&unknown, 1)).await), 404);
    let namesake = SigningKey::from_seed(key.name(), &[1; 32]).unwrap();
    assert_eq!(refused(ask(0, sign(&namesake, 1)).await), 403);
    assert_eq!(refused(ask(2, sign(&key, 1)).await), 400);
    assert_eq!(refused(ask(0, "x".repeat(100_000)).await), 400);
    let Answer::Cosigned(lines) = ask(0, sign(&key, 3)).await else { panic!("the first is cosigned") };
    let cosigned = witness.key.find(&format!("{}{lines}", sign(&key, 3))).unwrap();
    assert!(Clock::system().now().duration_since(cosigned.time).as_secs().abs() < 60);
    assert_eq!(ask(0, sign(&key, 3)).await, Answer::Conflict(Some(3)));
    assert!(matches!(ask(3, sign(&key, 3)).await, Answer::Cosigned(_)), "again, at a later time");
    assert_eq!(ask(3, sign(&key, 9)).await, Answer::NotConsistent);
    assert_eq!(ask(2, sign(&key, 2)).await, Answer::Conflict(Some(3)), "a rollback");
    assert_eq!(witness.size(), 3);

    // Who runs no log here is not let in at all.
    let court = Profile::load(&folder.file("court.toml")).unwrap().credentials().unwrap();
    let stranger = WitnessClient::new(&Dialler::new(&court, Clock::system()), &endpoint).unwrap();
    let request = AddCheckpoint { old_size: 3, proof: Vec::new(), checkpoint: sign(&key, 3) };
    let error = stranger.add_checkpoint(&request).await.unwrap_err().to_string();
    assert!(error.contains("AccessDenied"), "{error}");
}

/// Another party's gateway is a witness when `[witness]` is in its configuration; and it stands alone as a process.
#[tokio::test]
async fn a_gateway_and_a_process_of_its_own_can_be_witnesses() {
    let folder = Folder::prepare(Script::TakeOnly);
    let made = folder.run(&["witness", "init", "alone", "--name", "alone.example/witness"]).await;
    assert!(made.status.success(), "{}", said(&made));
    let alone: CosignerKey =
        fs::read_to_string(folder.file("alone/witness.pub")).unwrap().trim().parse().unwrap();
    assert!(said(&made).contains(&alone.to_string()), "{}", said(&made));
    let again = folder.run(&["witness", "init", "alone", "--name", "alone.example/witness"]).await;
    assert!(said(&again).contains("nothing is overwritten"), "{}", said(&again));
    let text = fs::read_to_string(folder.file("alone/witness.toml")).unwrap();
    let (first, second) = (free_address().unwrap(), free_address().unwrap());
    let text = text
        .replace("0.0.0.0:8444", &first.to_string())
        .replace("tls/authorities.pem", "tls/authority.crt.pem");
    let followed =
        |log: &VerifyingKey| format!("[[witness.log]]\nkey = \"{log}\"\nagency = \"{}\"\n", codes::GATEWAY);
    fs::write(folder.file("alone/witness.toml"), format!("{text}\n{}", followed(&log_key(&folder)))).unwrap();
    for (from, to) in [("auditor.crt.pem", "witness.crt.pem"), ("auditor.key.pem", "witness.key.pem")] {
        fs::copy(folder.file("tls").join(from), folder.file("alone/tls").join(to)).unwrap();
    }
    fs::copy(folder.file("tls/authority.crt.pem"), folder.file("alone/tls/authority.crt.pem")).unwrap();
    let mut process = tokio::process::Command::new(support::BINARY)
        .args(["witness", "--config", "alone/witness.toml"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    // The other gateway: same authority, a log and a database of its own.
    let other = SigningKey::from_seed("other.example/log", &[5; 32]).unwrap();
    legal_aid_gateway::identity::key_file::create(&folder.file("keys/other.key"), &other.encode()).unwrap();
    let beside = CosigningKey::from_seed("beside.example/witness", &[6; 32]).unwrap();
    legal_aid_gateway::identity::key_file::create(&folder.file("keys/witness.key"), &beside.encode())
        .unwrap();
    let text = fs::read_to_string(folder.file("gateway.toml")).unwrap();
    let listen = folder.client("centre").profile().gateway.address.clone();
    let text = text
        .replace(&listen, &free_address().unwrap().to_string())
        .replace("gateway.db", "other.db")
        .replace("keys/log.key", "keys/other.key")
        .replace("checkpoint = \"checkpoint\"", "checkpoint = \"other-checkpoint\"");
    let section =
        format!("\n[witness]\nlisten = \"{second}\"\nkey = \"keys/witness.key\"\nstate = \"witness\"\n");
    fs::write(folder.file("other.toml"), format!("{text}{section}{}", followed(&log_key(&folder)))).unwrap();
    let mut other = tokio::process::Command::new(support::BINARY)
        .args(["serve", "--config", "other.toml"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let path = folder.file("gateway.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("\n[audit.witnesses]\nquorum = 2\nsubmit_every = \"50ms\"\nlongest_retry = \"200ms\"\n");
    for (key, agency, address) in
        [(&alone, codes::AUDITOR, first), (beside.cosigner_key(), codes::GATEWAY, second)]
    {
        text.push_str(&format!(
            "[[audit.witnesses.witness]]\nkey = \"{key}\"\nagency = \"{agency}\"\naddress = \"{address}\"\n\
             server_name = \"localhost\"\n"
        ));
    }
    fs::write(path, text).unwrap();
    let gateway = Gateway::start(&folder).await;
    let cosigned = async {
        loop {
            let answer = write_entries(&folder, 1).await;
            if !answer.cosigned_checkpoint.is_empty() {
                return answer.cosigned_checkpoint;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let cosigned = tokio::time::timeout(PATIENCE, cosigned).await.expect("both cosign");
    assert!(alone.find(&cosigned).is_ok() && beside.cosigner_key().find(&cosigned).is_ok(), "{cosigned}");
    let checked = folder.run(&["doctor", "--config", "gateway.toml"]).await;
    assert!(said(&checked).contains("witness alone.example/witness"), "{}", said(&checked));
    assert!(said(&checked).contains("quorum of witnesses"), "{}", said(&checked));
    gateway.stop().await;
    process.kill().await.unwrap();
    other.kill().await.unwrap();
}

/// A revocation list that comes while the witness runs ends what it revokes; a list that cannot be read changes nothing.
#[tokio::test]
async fn a_process_of_its_own_reads_its_tls_files_again_when_they_change() {
    let folder = Folder::prepare(Script::TakeOnly);
    let made = folder.run(&["witness", "init", "alone", "--name", "alone.example/witness"]).await;
    assert!(made.status.success(), "{}", said(&made));
    let address = free_address().unwrap();
    let text = fs::read_to_string(folder.file("alone/witness.toml")).unwrap();
    let text = text
        .replace("0.0.0.0:8444", &address.to_string())
        .replace("tls/authorities.pem", "../tls/authority.crt.pem")
        .replace("tls/witness.crt.pem", "../tls/auditor.crt.pem")
        .replace("tls/witness.key.pem", "../tls/auditor.key.pem")
        .replace("# revocations", "revocations");
    let (log, organ) = (log_key(&folder), codes::GATEWAY);
    let followed = format!("[[witness.log]]\nkey = \"{log}\"\nagency = \"{organ}\"\n");
    fs::write(folder.file("alone/witness.toml"), format!("{text}\n{followed}")).unwrap();
    let tls = folder.file("tls");
    let authority = DevelopmentAuthority::load(&tls).unwrap();
    let gateways = IssuedCertificate {
        certificate_pem: fs::read_to_string(tls.join("gateway.crt.pem")).unwrap(),
        key_pem: fs::read_to_string(tls.join("gateway.key.pem")).unwrap().into(),
    };
    let revoking = |revoked: &[&IssuedCertificate]| {
        authority.revocation_list(revoked, Clock::system().now(), Duration::from_secs(3600)).unwrap()
    };
    let put = |text: &str| {
        fs::write(folder.file("alone/tls/new"), text).unwrap();
        fs::rename(folder.file("alone/tls/new"), folder.file("alone/tls/revoked.crl.pem")).unwrap();
    };
    put(&revoking(&[]));
    let mut process = tokio::process::Command::new(support::BINARY)
        .args(["witness", "--config", "alone/witness.toml"])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::from(fs::File::create(folder.file("alone/stderr")).unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let says = |words: &str| fs::read_to_string(folder.file("alone/stderr")).unwrap().contains(words);
    let client = witness_client(&folder, &endpoint(address, CreditCode::parse(codes::AUDITOR).unwrap()));
    let request = || AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint: "no checkpoint".to_owned() };
    let answers = async || client.add_checkpoint(&request()).await.is_ok();
    let it_answers = async || {
        while !answers().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, it_answers()).await.expect("it serves");

    put("no list");
    until(|| says("what was read before stays in force")).await;
    assert!(answers().await, "what was read before stays in force");

    put(&revoking(&[&gateways]));
    let it_refuses = async {
        while answers().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, it_refuses)
        .await
        .expect("the gateway's certificate is not believed any more");
    put(&revoking(&[]));
    tokio::time::timeout(PATIENCE, it_answers()).await.expect("it is let in again");
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_policy_that_cannot_hold_is_refused_by_name() {
    let folder = Folder::prepare(Script::TakeOnly);
    let (one, mut twin) = (Stand::of(&folder, "auditor", 1), Stand::of(&folder, "neighbour", 2));
    let configuration = fs::read_to_string(folder.file("gateway.toml")).unwrap();
    let said_to = async |policy: &str, witnesses: &[&Stand]| {
        fs::write(folder.file("gateway.toml"), &configuration).unwrap();
        configure(&folder, policy, witnesses);
        refused(&folder).await
    };
    assert!(said_to("quorum = 2", &[&one]).await.contains("audit.witnesses.quorum"));
    assert!(said_to("stop_after = \"10m\"", &[&one]).await.contains("audit.witnesses.stop_after"));
    twin.key = CosignerKey::from_public_key("twin.example", *one.key.public_key()).unwrap();
    assert!(said_to("quorum = 2", &[&one, &twin]).await.contains("must be of different parties"));
    twin.key = CosignerKey::from_public_key("twin.example", *log_key(&folder).public_key()).unwrap();
    assert!(said_to("", &[&twin]).await.contains("must be of different parties"));
}

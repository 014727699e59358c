//! The published log: tiles over HTTPS, the same over gRPC, receipts, and the folder that `audit export --tiles` writes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use bytes::Bytes;
use district::{DEADLINE, Refused, Scene, connect_speaking};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use legal_aid_gateway::access::AgencyStatus;
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::audit::merkle::{Hash, leaf_hash};
use legal_aid_gateway::audit::note::VerifyingKey;
use legal_aid_gateway::audit::proof::verify_consistency;
use legal_aid_gateway::audit::published::{Resource, decode_bundle, decode_tile};
use legal_aid_gateway::audit::receipt::TlogProof;
use legal_aid_gateway::audit::tile::{TileId, TileSet};
use legal_aid_gateway::audit::verifier::verify_published;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

/// Starts everything, with the published log on an address of its own.
async fn start() -> Scene {
    start_with(&[]).await
}

/// The same, with texts of its configuration replaced.
async fn start_with(more: &[(&str, &str)]) -> Scene {
    let listen = ("# listen = \"0.0.0.0:8451\"", "listen = \"127.0.0.1:0\"");
    let edit = |text: String| {
        more.iter().chain([&listen]).fold(text, |text, (old, new)| {
            assert!(text.contains(old), "{old} is not in {text}");
            text.replacen(old, new, 1)
        })
    };
    Scene::start_configured(edit).await
}

/// A connection to the published log.
enum Fetcher {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What was fetched.
struct Fetched {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Fetcher {
    async fn connect(scene: &Scene, who: &str, protocols: &[&[u8]]) -> Self {
        let address = scene.district.gateway.tiles_address().unwrap().to_string();
        let stream = connect_speaking(&scene.profile(who), &address, protocols).await.unwrap();
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    async fn get(&mut self, path: &str) -> Fetched {
        self.send("GET", path, "").await
    }

    async fn send(&mut self, method: &str, path: &str, body: &'static str) -> Fetched {
        let request = Request::builder().method(method).body(Full::new(Bytes::from(body)));
        let mut request = request.unwrap();
        let response = match self {
            Self::Http1(sender) => {
                *request.uri_mut() = path.parse().unwrap();
                request.headers_mut().insert("host", "localhost".parse().unwrap());
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Self::Http2(sender) => {
                *request.uri_mut() = format!("https://localhost{path}").parse().unwrap();
                sender.send_request(request).await.unwrap()
            }
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Fetched { status: parts.status, headers: parts.headers, body }
    }
}

impl Fetched {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    fn log_index(&self) -> u64 {
        self.header("audit-log-index").parse().unwrap()
    }
}

/// Makes the log a few hundred entries long.
async fn fill(scene: &Scene) {
    let size = || checkpoint(scene).size;
    while size() < 300 {
        let calls = (0..50).map(|_| async {
            let context = Some(scene.auditor.context(purposes::AUDIT_INSPECTION));
            let request = proto::GetCheckpointRequest { context };
            scene.auditor.audit().get_checkpoint(scene.auditor.request(request, DEADLINE)).await.unwrap()
        });
        for call in calls {
            call.await;
        }
    }
}

fn key(scene: &Scene) -> VerifyingKey {
    scene.district.gateway.log_key().clone()
}

fn checkpoint(scene: &Scene) -> Checkpoint {
    Checkpoint::open(&scene.district.gateway.checkpoint(), &key(scene)).unwrap()
}

#[tokio::test]
async fn an_auditor_s_tools_fetch_the_log_over_either_http_and_each_fetch_has_its_entry() {
    let scene = start().await;
    fill(&scene).await;
    for (protocols, version) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], "h2"),
        (&[b"http/1.1"], "http/1.1"),
        // Tools that know nothing of ALPN speak HTTP/1.1.
        (&[], "none"),
    ] {
        let mut fetcher = Fetcher::connect(&scene, "auditor", protocols).await;
        assert_eq!(matches!(fetcher, Fetcher::Http2(_)), version == "h2");
        let note = fetcher.get("/checkpoint").await;
        assert_eq!((note.status, note.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
        assert_eq!(note.header("cache-control"), "no-cache");
        let signed = Checkpoint::open(&note.text(), &key(&scene)).unwrap();

        let mut files = std::collections::BTreeMap::new();
        for resource in resources(signed.size) {
            let fetched = fetcher.get(&format!("/{}", resource.path())).await;
            assert_eq!(fetched.status, StatusCode::OK, "{}: {}", resource.path(), fetched.text());
            assert_eq!(fetched.header("content-type"), "application/octet-stream");
            assert_eq!(fetched.header("cache-control"), "private, max-age=31536000, immutable");
            assert_eq!(fetched.header("content-length"), fetched.body.len().to_string());
            let entry = scene.entry(fetched.log_index()).await;
            assert_eq!((entry.phase, &*entry.method), (Phase::Read, "GetTile"));
            assert_eq!(entry.purpose.as_deref(), Some(purposes::AUDIT_INSPECTION));
            assert!(entry.agreement.is_some() && entry.request_commitment.is_some());
            files.insert(resource.path(), fetched.body.to_vec());
        }
        let report = verify_published(&note.text(), &key(&scene), &[], |resource| {
            Ok(files.get(&resource.path()).cloned())
        });
        let report = report.unwrap();
        assert!(report.is_sound() && report.verified_entries == signed.size, "{:?}", report.findings);

        let head = fetcher.send("HEAD", "/tile/0/000", "").await;
        assert_eq!(
            (head.status, head.header("content-length"), head.body.len()),
            (StatusCode::OK, "8192", 0)
        );
    }
    scene.stop().await;
}

/// All that a log of this size publishes, but for the checkpoint.
fn resources(size: u64) -> Vec<Resource> {
    let mut resources = Vec::new();
    for level in 0..8 {
        for index in 0.. {
            let tile = TileId { level, index };
            let width = tile.width_at(size);
            if width == 0 {
                break;
            }
            resources.push(Resource::Tile { tile, width });
            if level == 0 {
                resources.push(Resource::Entries { index, width });
            }
        }
    }
    resources
}

#[tokio::test]
async fn who_has_no_agreement_and_what_is_not_there_is_refused_with_an_entry() {
    let scene = start().await;
    let mut centre = Fetcher::connect(&scene, "centre", &[b"http/1.1"]).await;
    let refused = centre.get("/checkpoint").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text().contains("no agreement allows"), "{}", refused.text());
    let entry = scene.entry(refused.log_index()).await;
    assert_eq!((entry.phase, entry.reason.as_deref()), (Phase::Refused, Some("NO_AGREEMENT")));

    for protocols in [&[b"http/1.1".as_slice()], &[b"h2".as_slice()]] {
        let mut auditor = Fetcher::connect(&scene, "auditor", protocols).await;
        for (method, path, body, status, reason) in [
            ("GET", "/", "", StatusCode::NOT_FOUND, "NOT_FOUND"),
            ("GET", "/favicon.ico", "", StatusCode::NOT_FOUND, "NOT_FOUND"),
            ("GET", "/tile/0/0", "", StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            ("GET", "/tile/0/000.p/256", "", StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            ("GET", "/tile/0/000", "", StatusCode::NOT_FOUND, "NOT_FOUND"),
            (
                "GET",
                "/tile/entries/x018/x446/x744/x073/x709/x551/615",
                "",
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
            ),
            ("GET", "/tile/63/000.p/1", "", StatusCode::NOT_FOUND, "NOT_FOUND"),
            ("POST", "/checkpoint", "", StatusCode::BAD_REQUEST, "NOT_A_FETCH"),
            ("GET", "/checkpoint", "a body", StatusCode::BAD_REQUEST, "NOT_A_FETCH"),
            ("DELETE", "/tile/0/000", "", StatusCode::BAD_REQUEST, "NOT_A_FETCH"),
        ] {
            let mut auditor = match auditor {
                // After a body that was not read, HTTP/1.1 closes the connection.
                Fetcher::Http1(_) => Fetcher::connect(&scene, "auditor", protocols).await,
                Fetcher::Http2(ref sender) => Fetcher::Http2(sender.clone()),
            };
            let refused = auditor.send(method, path, body).await;
            assert_eq!(refused.status, status, "{method} {path}: {}", refused.text());
            assert_eq!(refused.header("cache-control"), "no-store");
            let entry = scene.entry(refused.log_index()).await;
            assert_eq!((entry.phase, entry.reason.as_deref()), (Phase::Refused, Some(reason)), "{path}");
        }
        assert_eq!(auditor.get("/tile/0/000.p/1").await.status, StatusCode::OK);
    }

    // The other listener goes on speaking gRPC alone.
    let profile = scene.profile("auditor");
    let refused = connect_speaking(&profile, &profile.gateway.address, &[b"http/1.1"]).await;
    assert!(refused.is_err());
    // Who is not enrolled is not let in here either.
    let address = scene.district.gateway.tiles_address().unwrap().to_string();
    let stranger = connect_speaking(&scene.profile("stranger"), &address, &[b"h2"]).await;
    if let Ok(stream) = stranger {
        let closed = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap().1.await;
        assert!(closed.is_err(), "a stranger was let in");
    }
    scene.stop().await;
}

#[tokio::test]
async fn what_an_agency_may_use_at_once_is_bounded() {
    let scene = start_with(&[("# requests_per_agency = 16", "requests_per_agency = 0")]).await;
    let mut auditor = Fetcher::connect(&scene, "auditor", &[b"http/1.1"]).await;
    let refused = auditor.get("/checkpoint").await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    assert_eq!(scene.entry(refused.log_index()).await.reason.as_deref(), Some("AGENCY_OVERLOADED"));
    scene.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_or_is_too_large_is_cut_off() {
    let scene = start_with(&[("# first_byte = \"10s\"", "first_byte = \"300ms\"")]).await;
    let address = scene.district.gateway.tiles_address().unwrap().to_string();
    for begun in [String::new(), "GET /checkpoint HTTP/1.1\r\nhost: localhost\r\nx: ".to_owned()] {
        let mut stream = connect_speaking(&scene.profile("auditor"), &address, &[b"http/1.1"]).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Closed, with a note or without one: what counts is that it does not stay.
        let closed = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "it stayed open");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
    let mut auditor = Fetcher::connect(&scene, "auditor", &[b"http/1.1"]).await;
    let refused = auditor.get(&format!("/{}", "x".repeat(40_000))).await;
    assert!(refused.status.is_client_error(), "{}", refused.status);
    scene.stop().await;
}

#[tokio::test]
async fn a_suspended_auditor_fetches_nothing_more_on_an_open_connection() {
    let scene = start().await;
    let mut auditor = Fetcher::connect(&scene, "auditor", &[b"h2"]).await;
    assert_eq!(auditor.get("/checkpoint").await.status, StatusCode::OK);
    scene
        .edit_directory(|file| {
            let auditor = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::AUDITOR);
            auditor.unwrap().status = AgencyStatus::Suspended;
        })
        .await;
    assert_eq!(auditor.get("/checkpoint").await.status, StatusCode::FORBIDDEN);
    scene.stop().await;
}

#[tokio::test]
async fn entries_tiles_and_consistency_come_over_grpc_too() {
    let scene = start().await;
    let old = checkpoint(&scene);
    fill(&scene).await;
    let auditor = &scene.auditor;
    let context = || Some(auditor.context(purposes::AUDIT_INSPECTION));

    let request = proto::GetConsistencyProofRequest { context: context(), old_size: old.size, new_size: 0 };
    let proof = auditor.audit().get_consistency_proof(auditor.request(request, DEADLINE)).await;
    let proof = proof.unwrap().into_inner();
    let new = Checkpoint::open(&proof.checkpoint, &key(&scene)).unwrap();
    assert_eq!((proof.new_size, proof.root_hash.as_slice()), (new.size, new.root.as_bytes().as_slice()));
    let hashes: Vec<Hash> = proof.hashes.iter().map(|hash| Hash::from_slice(hash).unwrap()).collect();
    assert_eq!(verify_consistency(old.size, &old.root, new.size, &new.root, &hashes), Ok(()));

    let mut entries = Vec::new();
    while (entries.len() as u64) < new.size {
        let first = entries.len() as u64;
        let request = proto::GetEntriesRequest { context: context(), first, count: 113 };
        let answer = auditor.audit().get_entries(auditor.request(request, DEADLINE)).await;
        let answer = answer.unwrap().into_inner().entries;
        assert!((1..=113).contains(&answer.len()));
        for stored in answer {
            assert_eq!(stored.index, entries.len() as u64);
            assert_eq!(stored.leaf_hash, leaf_hash(&stored.entry).as_bytes());
            entries.push(stored.entry);
        }
    }
    let mut tiles = TileSet::new();
    for (level, index) in [(0, 0), (0, 1), (1, 0)] {
        let tile = TileId { level, index };
        let width = tile.width_at(new.size);
        let request = proto::GetTileRequest {
            context: context(),
            level: level.into(),
            index,
            width: u32::try_from(width).unwrap(),
        };
        let answer = auditor.audit().get_tile(auditor.request(request, DEADLINE)).await;
        let hashes = decode_tile(&answer.unwrap().into_inner().tile).unwrap();
        assert_eq!(hashes.len(), width);
        tiles.insert(tile, hashes);
    }
    assert_eq!(tiles.root(new.size).unwrap(), new.root);
    assert_eq!(tiles.get(TileId { level: 0, index: 0 }).unwrap()[7], leaf_hash(&entries[7]));

    // The same bytes as over HTTPS.
    let mut fetcher = Fetcher::connect(&scene, "auditor", &[b"h2"]).await;
    let bundle = fetcher.get("/tile/entries/000").await.body;
    assert_eq!(decode_bundle(&bundle).unwrap(), entries[..256]);
    scene.stop().await;
}

async fn receipt(
    client: &AgencyClient,
    purpose: &str,
    index: u64,
) -> Result<proto::GetReceiptResponse, Status> {
    let request = proto::GetReceiptRequest { context: Some(client.context(purpose)), index };
    client.audit().get_receipt(client.request(request, DEADLINE)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_receipt_is_for_the_caller_its_counterpart_and_auditors() {
    let scene = start().await;
    let index = scene.submit(&scene.fee_waiver()).await.unwrap().audit.unwrap().log_index;
    let (of_caller, of_court) = (purposes::FEE_WAIVER, purposes::FEE_WAIVER);
    for (client, purpose) in
        [(&scene.centre, of_caller), (&scene.court, of_court), (&scene.auditor, purposes::AUDIT_INSPECTION)]
    {
        let answer = receipt(client, purpose, index).await.unwrap();
        let proof = TlogProof::parse(&answer.proof).unwrap();
        assert_eq!((answer.index, proof.index), (index, index));
        assert!(proof.verify(&answer.entry, &key(&scene)).unwrap().size > index);
        let entry = scene.entry(answer.audit.unwrap().log_index).await;
        assert_eq!((entry.phase, &*entry.method), (Phase::Read, "GetReceipt"));
    }
    // Who had no part in it, and what does not exist, look the same.
    let neighbour = scene.district.client("neighbour").unwrap();
    let foreign = Refused::of(&receipt(&neighbour, purposes::COOPERATION, index).await.err().unwrap());
    let nothing = Refused::of(&receipt(&neighbour, purposes::COOPERATION, 1_000_000).await.err().unwrap());
    assert_eq!((foreign.code, &foreign.reason), (Code::NotFound, &nothing.reason));
    // What the neighbour tried in vain, or only read, does not come to whom it named.
    let refused = Refused::of(&district::submit(&neighbour, &scene.fee_waiver()).await.err().unwrap());
    let submitted = scene.entry(index).await.exchange.unwrap().to_string();
    let read = district::get(&scene.centre, &submitted).await.unwrap().audit.unwrap().log_index;
    for hidden in [refused.log_index, read] {
        assert_eq!(scene.entry(hidden).await.counterpart, scene.entry(index).await.counterpart);
        let found = Refused::of(&receipt(&scene.court, of_court, hidden).await.err().unwrap());
        assert_eq!((found.code, &found.reason), (Code::NotFound, &nothing.reason));
        let request = proto::OpenEntryRequest {
            context: Some(scene.court.context(of_court)),
            index: hidden,
            fields: vec![proto::CommittedField::Request.into()],
        };
        let opened = scene.court.audit().open_entry(scene.court.request(request, DEADLINE)).await;
        assert_eq!(Refused::of(&opened.err().unwrap()).code, Code::NotFound);
    }
    // What the gateway answered is for the caller alone.
    for (client, may) in [(&scene.centre, true), (&scene.court, false)] {
        let request = proto::OpenEntryRequest {
            context: Some(client.context(purposes::FEE_WAIVER)),
            index,
            fields: vec![proto::CommittedField::Response.into()],
        };
        let opened = client.audit().open_entry(client.request(request, DEADLINE)).await;
        assert_eq!(opened.is_ok(), may, "{:?}", opened.err());
    }
    // An auditor's entry is not the centre's.
    let inspected = receipt(&scene.auditor, purposes::AUDIT_INSPECTION, index).await.unwrap();
    let theirs = receipt(&scene.centre, purposes::FEE_WAIVER, inspected.audit.unwrap().log_index).await;
    assert_eq!(Refused::of(&theirs.err().unwrap()).code, Code::NotFound);
    scene.stop().await;
}

/// Runs the binary in the scene's folder.
async fn run(scene: &Scene, arguments: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
        .args(arguments)
        .current_dir(&scene.folder)
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_receipt_is_kept_in_a_file_and_checked_without_the_gateway() {
    let scene = start().await;
    let key = key(&scene).to_string();
    let index = scene.submit(&scene.fee_waiver()).await.unwrap().audit.unwrap().log_index.to_string();
    let get = ["audit", "receipt", &index, "--as", "centre.toml", "--purpose", "FEE_WAIVER", "--key", &key];
    let (done, said) = run(&scene, &[&get[..], &["--out", "one.receipt"]].concat()).await;
    assert!(done, "{said}");
    let (again, said) = run(&scene, &[&get[..], &["--out", "one.receipt"]].concat()).await;
    assert!(!again && said.contains("nothing is overwritten"), "{said}");
    let (done, said) = run(&scene, &["audit", "receipt", "0", "--as", "court.toml", "--out", "other"]).await;
    assert!(!done && !scene.folder.join("other").exists(), "{said}");
    let folder = scene.folder.clone();
    let (verify, tampered) = (["audit", "verify", "one.receipt", "--key", &key], folder.join("one.receipt"));
    let (done, said) = run(&scene, &verify).await;
    assert!(done && said.contains("PROVEN") && said.contains("NOT PROVEN"), "{said}");
    let (done, said) = run(&scene, &[&verify[..], &["--json"]].concat()).await;
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(done && told["index"].as_u64().map(|index| index.to_string()) == Some(index), "{said}");
    let text = std::fs::read_to_string(&tampered).unwrap();
    std::fs::write(&tampered, text.replace("SubmitExchange", "submitExchange")).unwrap();
    let (done, said) = run(&scene, &verify).await;
    assert!(!done && said.contains("proves nothing"), "{said}");
    scene.stop().await;
}

#[tokio::test]
async fn a_folder_of_tiles_is_brought_up_to_date_and_verified_offline() {
    let scene = start().await;
    fill(&scene).await;
    let key = key(&scene).to_string();
    let export = ["audit", "export", "--as", "auditor.toml", "--tiles", "published", "--json"];
    let fetched = async || {
        let (done, said) = run(&scene, &export).await;
        assert!(done, "{said}");
        let told: serde_json::Value = serde_json::from_str(&said).unwrap();
        (told["size"].as_u64().unwrap(), told["fetched"].as_u64().unwrap())
    };
    let verify = ["audit", "verify", "published", "--key", &key];
    let (first_size, first) = fetched().await;
    assert_eq!(first, first_size);
    let (done, said) = run(&scene, &verify).await;
    assert!(done && said.contains("the log is sound"), "{said}");
    let kept = scene.folder.join("kept");
    std::fs::copy(scene.folder.join("published/checkpoint"), &kept).unwrap();

    // Only the bundle on the edge is fetched again.
    let (size, second) = fetched().await;
    assert!(size > first_size && second == size - 256, "{second} of {size}");
    let (done, said) = run(&scene, &[&verify[..], &["--checkpoint", "kept"]].concat()).await;
    assert!(done && said.contains("1 earlier"), "{said}");

    // A run that was cut off is made up for by the next.
    std::fs::remove_file(scene.folder.join("published/tile/entries/000")).unwrap();
    let (done, said) = run(&scene, &verify).await;
    assert!(!done && said.contains("tile/entries/000 is missing"), "{said}");
    let (size, third) = fetched().await;
    assert_eq!(third, size);

    // What was changed is found, and nothing is published over it.
    let bundle = scene.folder.join("published/tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (done, said) = run(&scene, &verify).await;
    assert!(!done && said.contains("entry 0 was changed"), "{said}");
    let tile = scene.folder.join("published/tile/0/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    let (done, said) = run(&scene, &export).await;
    assert!(!done && said.contains("one of the two was changed"), "{said}");
    scene.stop().await;
}

//! Papers up and down: checked at both ends, kept sealed, gone on with after a break, and nobody else's business.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use district::records::Contents;
use district::{DEADLINE, Refused, Scene, answer, respond, submit};
use legal_aid_gateway::access::{AgencyStatus, Method};
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::client::{AgencyClient, Paper, TransferError};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const PDF: &str = "application/pdf";
const CHUNK: usize = 64 * 1024;

/// A court's decision travels to the centre that asked: whole, though each way breaks once.
#[tokio::test(flavor = "multi_thread")]
async fn a_paper_goes_up_and_comes_down_although_both_ways_break() {
    let scene = Scene::start().await;
    let exchange = submit(&scene.centre, &scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, proto::ExchangeState::Delivered).await;
    let bytes = pdf(3 * 1024 * 1024 + 12_345);
    let file = scene.folder.join("裁定书.pdf");
    std::fs::write(&file, &bytes).unwrap();

    // Up, until the sender vanishes behind 24 chunks.
    let (parts, taken) = mpsc::channel(1);
    let court = scene.court.clone();
    let uploading =
        tokio::spawn(async move { court.attachments().upload_attachment(ReceiverStream::new(taken)).await });
    parts.send(first(&scene.court, &bytes, PDF)).await.unwrap();
    for (place, data) in bytes.chunks(CHUNK).take(24).enumerate() {
        parts.send(part(place * CHUNK, data)).await.unwrap();
    }
    // What was sent lies in buffers for a while.
    let arrived = async {
        while durable(&scene.court, &bytes).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, arrived).await.expect("nothing arrives");
    uploading.abort();
    let filter =
        || proto::EntryFilter { method: Method::UploadAttachment.name().to_owned(), ..Default::default() };
    let (_, ended) = scene.await_entry(filter(), |entry| entry.phase == Phase::Response).await;
    assert_eq!((ended.code.as_deref(), ended.reason.as_deref()), (Some("CANCELLED"), Some("PEER_GONE")));
    let durable = durable(&scene.court, &bytes).await;
    assert!((CHUNK..=24 * CHUNK).contains(&durable) && durable.is_multiple_of(CHUNK), "{durable}");

    // The rest, from there.
    let paper = Paper::read(&file).await.unwrap();
    let (told, mut progress) = mpsc::unbounded_channel();
    let uploaded = scene.court.upload(&paper, PDF, "裁定书.pdf", purposes::FEE_WAIVER, move |bytes| {
        let _ = told.send(bytes);
    });
    assert_eq!(uploaded.await.unwrap().size_bytes, i64::try_from(bytes.len()).unwrap());
    assert!(progress.recv().await.unwrap() > durable as u64);
    // Once more: it is there already.
    let again = scene.court.upload(&paper, PDF, "裁定书.pdf", purposes::FEE_WAIVER, |_| ());
    again.await.unwrap();

    // The centre gets it once the court has named it in their exchange, and not before.
    let out = scene.folder.join("received.pdf");
    let early = scene.centre.download(&paper.sha256, &out, purposes::FEE_WAIVER, |_, _| ()).await;
    assert_eq!(refused(early.err().unwrap()).code, Code::NotFound);
    let receipt = receipt(&scene, &exchange.exchange_id).await;
    let mut receipt = answer(&scene.court, &exchange, receipt);
    receipt.envelope.as_mut().unwrap().attachments.push(named(&bytes, bytes.len(), PDF));
    respond(&scene.court, &receipt).await.unwrap();
    std::fs::write(scene.folder.join("received.pdf.part"), &bytes[..1_000_000]).unwrap();
    let downloaded = scene.centre.download(&paper.sha256, &out, purposes::FEE_WAIVER, |_, _| ()).await;
    assert_eq!(downloaded.unwrap(), bytes.len() as u64);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    let filter =
        proto::EntryFilter { method: Method::DownloadAttachment.name().to_owned(), ..Default::default() };
    let (_, ended) = scene.await_entry(filter, |entry| entry.phase == Phase::Response).await;
    let items = (bytes.len() - 1_000_000 / CHUNK * CHUNK).div_ceil(CHUNK) as u64 + 1;
    assert_eq!((ended.code.as_deref(), ended.items), (Some("OK"), Some(items)));

    // A partial file of something else is found out at this end.
    let spoilt = scene.folder.join("spoilt.pdf");
    std::fs::write(scene.folder.join("spoilt.pdf.part"), b"%PDF-1.7 of another").unwrap();
    let downloaded = scene.centre.download(&paper.sha256, &spoilt, purposes::FEE_WAIVER, |_, _| ()).await;
    assert!(matches!(downloaded, Err(TransferError::Digest)));
    assert!(!spoilt.exists() && !scene.folder.join("spoilt.pdf.part").exists());
    scene.stop().await;
}

#[tokio::test]
async fn a_third_agency_cannot_tell_a_foreign_paper_from_none() {
    let scene = Scene::start().await;
    let other = scene.enrol_another_centre().await;
    let bytes = pdf(100_000);
    upload(&scene.centre, &bytes, PDF).await.unwrap();
    let mut request = scene.fee_waiver();
    request.envelope.as_mut().unwrap().attachments.push(named(&bytes, bytes.len(), PDF));
    submit(&scene.centre, &request).await.unwrap();
    assert_eq!(download(&scene.court, &bytes, 0).await.unwrap(), bytes);
    assert_eq!(download(&scene.court, &bytes, 99_000).await.unwrap(), &bytes[99_000..]);

    // That the other centre names the digest in an exchange of its own gives it nothing, and the court nothing new.
    let mut request = scene.fee_waiver();
    let envelope = request.envelope.take().unwrap();
    let attachments = vec![named(&bytes, 7, "image/png")];
    let own = proto::Envelope {
        request_id: String::new(),
        sender: String::new(),
        operator: None,
        attachments,
        ..envelope
    };
    request.envelope = Some(other.complete(own));
    submit(&other, &request).await.unwrap();
    let foreign = download(&other, &bytes, 0).await.err().unwrap();
    let none = download(&other, b"%PDF-of nobody", 0).await.err().unwrap();
    assert_eq!((foreign.code(), foreign.message()), (none.code(), none.message()));
    assert_eq!(Refused::of(&foreign).reason, Refused::of(&none).reason);
    assert_eq!(foreign.code(), Code::NotFound);
    assert_eq!((durable(&other, &bytes).await, durable(&other, b"%PDF-of nobody").await), (0, 0));
    // Uploading it oneself tells nothing either: it has to be sent in full.
    upload(&other, &bytes, PDF).await.unwrap();
    assert_eq!(download(&other, &bytes, 0).await.unwrap(), bytes);
    scene.stop().await;
}

#[tokio::test]
async fn a_download_ends_when_the_agency_is_suspended() {
    let scene = Scene::start().await;
    // More than lies between the two ends on the way.
    let bytes = pdf(24 * 1024 * 1024);
    upload(&scene.centre, &bytes, PDF).await.unwrap();
    let request = proto::DownloadAttachmentRequest {
        context: Some(scene.centre.context(purposes::FEE_WAIVER)),
        sha256: Sha256::digest(&bytes).to_vec(),
        offset: 0,
    };
    let mut items = scene.centre.attachments().download_attachment(request).await.unwrap().into_inner();
    assert!(items.message().await.unwrap().is_some());
    scene
        .edit_directory(|file| {
            let centre = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::CENTRE);
            centre.unwrap().status = AgencyStatus::Suspended;
        })
        .await;
    let status = loop {
        match items.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("all of it came"),
            Err(status) => break status,
        }
    };
    assert_eq!(Refused::of(&status).reason, "AGENCY_NOT_ACTIVE");
    scene.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_said_and_it_is_not_given_out() {
    let scene = Scene::start().await;
    let (centre, bytes) = (&scene.centre, pdf(200_000));
    let whole = || first(centre, &bytes, PDF);
    let parts = || bytes.chunks(CHUNK).enumerate().map(|(place, data)| part(place * CHUNK, data));
    type Faults = Vec<(&'static str, Vec<proto::UploadAttachmentRequest>, &'static str, &'static str)>;
    let with = |change: fn(&mut proto::UploadAttachmentRequest)| {
        let mut first = whole();
        change(&mut first);
        std::iter::once(first).chain(parts()).collect::<Vec<_>>()
    };
    let mut skipped: Vec<_> = std::iter::once(whole()).chain(parts()).collect();
    skipped.remove(2);
    let mut twice: Vec<_> = std::iter::once(whole()).chain(parts()).collect();
    twice[1].name = "another.pdf".to_owned();
    let mut short: Vec<_> = std::iter::once(whole()).chain(parts()).collect();
    short.pop();
    let faults: Faults = vec![
        ("another digest", with(|first| first.sha256 = vec![9; 32]), "sha256", "DIGEST_OF_THE_CONTENT"),
        (
            "another type",
            with(|first| first.media_type = "image/png".into()),
            "media_type",
            "MEDIA_TYPE_FITS_CONTENT",
        ),
        (
            "text",
            with(|first| first.media_type = "text/plain".into()),
            "media_type",
            "MEDIA_TYPE_FITS_CONTENT",
        ),
        (
            "a program",
            with(|first| first.media_type = "application/x-elf".into()),
            "media_type",
            "MEDIA_TYPE_IS_TAKEN",
        ),
        ("too large", with(|first| first.size_bytes = 1 << 40), "size_bytes", "ATTACHMENT_SIZE"),
        ("empty", with(|first| first.size_bytes = 0), "size_bytes", "POSITIVE"),
        ("an offset of nothing", with(|first| first.offset = 5), "offset", "GOES_ON_WHERE_IT_ENDED"),
        ("more than announced", with(|first| first.size_bytes = 100_000), "data", "WITHIN_THE_SIZE"),
        ("below zero", with(|first| first.offset = -5), "offset", "NOT_NEGATIVE"),
        ("a part left out", skipped, "offset", "GOES_ON_WHERE_IT_ENDED"),
        ("a second header", twice, "name", "ONLY_IN_THE_FIRST"),
        ("too little", short, "size_bytes", "UPLOAD_IS_WHOLE"),
        ("a large part", vec![whole(), part(0, &bytes[..CHUNK + 1])], "data", "AT_MOST_64_KIB"),
    ];
    for (fault, messages, field, rule) in faults {
        let call = centre.attachments().upload_attachment(tokio_stream::iter(messages)).await;
        let refused = Refused::of(&call.err().unwrap_or_else(|| panic!("{fault} is taken")));
        assert_eq!(refused.rules(), [(field, rule)], "{fault}");
        assert_eq!(download(centre, &bytes, 0).await.err().unwrap().code(), Code::NotFound, "{fault}");
    }
    let nothing = centre.attachments().upload_attachment(tokio_stream::empty()).await.err().unwrap();
    assert_eq!(Refused::of(&nothing).reason, "UNREADABLE_REQUEST");

    // A message that names an upload says of it what is true.
    upload(centre, &bytes, PDF).await.unwrap();
    let mut request = scene.fee_waiver();
    request.envelope.as_mut().unwrap().attachments.push(named(&bytes, 199_999, "image/png"));
    let refused = Refused::of(&submit(centre, &request).await.err().unwrap());
    let at = |field| format!("envelope.attachments[0].{field}");
    let fields: Vec<_> = refused.violations.iter().map(|v| v.field.clone()).collect();
    assert_eq!(fields, [at("size_bytes"), at("media_type")]);
    assert!(refused.violations.iter().all(|v| v.reason == "AGREES_WITH_UPLOAD"));
    let beyond = download(centre, &bytes, 200_001).await.err().unwrap();
    assert_eq!(Refused::of(&beyond).rules(), [("offset", "WITHIN_THE_SIZE")]);
    assert!(download(centre, &bytes, 200_000).await.unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn at_rest_there_is_neither_content_nor_name_nor_digest() {
    let scene = Scene::start().await;
    let mut bytes = pdf(150_000);
    let secret = "330106199003070019测试甲的困难证明".as_bytes();
    bytes[70_000..70_000 + secret.len()].copy_from_slice(secret);
    upload(&scene.centre, &bytes, PDF).await.unwrap();
    let stored = Contents::of(&scene.database());
    assert!(stored.len() > bytes.len());
    assert!(stored.hold(b"attachment_chunks") && !stored.hold(secret));
    assert!(
        !stored.hold(NAME.as_bytes())
            && !stored.hold(&Sha256::digest(&bytes))
            && !stored.hold(PDF.as_bytes())
    );
    scene.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_never_finished_is_removed_in_time() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    let (whole, half) = (pdf(100_000), pdf(200_000));
    upload(&scene.centre, &whole, PDF).await.unwrap();
    let messages = vec![first(&scene.centre, &half, PDF), part(0, &half[..CHUNK])];
    let cut = scene.centre.attachments().upload_attachment(tokio_stream::iter(messages)).await;
    assert_eq!(Refused::of(&cut.err().unwrap()).rules(), [("size_bytes", "UPLOAD_IS_WHOLE")]);
    assert_eq!(durable(&scene.centre, &half).await, CHUNK);
    clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!(durable(&scene.centre, &half).await, CHUNK);
    clock.advance(Duration::from_secs(2 * 3600));
    let removed = async {
        while durable(&scene.centre, &half).await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, removed).await.expect("the upload stays");
    assert_eq!(download(&scene.centre, &whole, 0).await.unwrap(), whole);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_carries_a_paper_both_ways() {
    let scene = Scene::start().await;
    let bytes = pdf(300_000);
    std::fs::write(scene.folder.join("证明.pdf"), &bytes).unwrap();
    let folder = scene.folder.clone();
    let run = move |arguments: Vec<String>| {
        let folder = folder.clone();
        async move { tokio::task::spawn_blocking(move || cli(&folder, &arguments)).await.unwrap() }
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let said = run(words("attachment upload --as centre.toml --json 证明.pdf")).await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["attachment"]["sha256"], BASE64.encode(&Sha256::digest(&bytes)));
    assert_eq!(said["attachment"]["sizeBytes"], "300000");
    let sha256 = HEXLOWER.encode(&Sha256::digest(&bytes));
    run(words(&format!("attachment download --as centre.toml --out copy.pdf {sha256}"))).await;
    assert_eq!(std::fs::read(scene.folder.join("copy.pdf")).unwrap(), bytes);

    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    let line = run(words("exchange watch --as centre.toml --limit 1 --json")).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["event"]["change"], "EXCHANGE_CHANGE_OPENED");
    let cursor = line["cursor"].as_str().unwrap();
    let line = run(words(&format!("exchange watch --as centre.toml --limit 1 --from {cursor}"))).await;
    assert!(line.contains(" DELIVERED DELIVERED "), "{line}");
    scene.stop().await;
}

fn cli(folder: &Path, arguments: &[String]) -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    let output = Command::new(binary).args(arguments).current_dir(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

const NAME: &str = "测试甲的困难证明.pdf";

/// Bytes that begin as a PDF and repeat nothing.
fn pdf(size: usize) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut state = size as u64;
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn first(client: &AgencyClient, bytes: &[u8], media_type: &str) -> proto::UploadAttachmentRequest {
    proto::UploadAttachmentRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        sha256: Sha256::digest(bytes).to_vec(),
        size_bytes: i64::try_from(bytes.len()).unwrap(),
        media_type: media_type.to_owned(),
        name: NAME.to_owned(),
        ..Default::default()
    }
}

fn part(offset: usize, data: &[u8]) -> proto::UploadAttachmentRequest {
    let offset = i64::try_from(offset).unwrap();
    proto::UploadAttachmentRequest { offset, data: data.to_vec(), ..Default::default() }
}

fn named(bytes: &[u8], size: usize, media_type: &str) -> proto::Attachment {
    proto::Attachment {
        sha256: Sha256::digest(bytes).to_vec(),
        name: NAME.to_owned(),
        media_type: media_type.to_owned(),
        size_bytes: i64::try_from(size).unwrap(),
        form_number: String::new(),
    }
}

async fn upload(client: &AgencyClient, bytes: &[u8], media_type: &str) -> Result<(), Status> {
    let parts = bytes.chunks(CHUNK).enumerate().map(|(place, data)| part(place * CHUNK, data));
    let messages: Vec<_> = std::iter::once(first(client, bytes, media_type)).chain(parts).collect();
    client.attachments().upload_attachment(tokio_stream::iter(messages)).await.map(|_| ())
}

async fn download(client: &AgencyClient, of: &[u8], offset: usize) -> Result<Vec<u8>, Status> {
    let request = proto::DownloadAttachmentRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        sha256: Sha256::digest(of).to_vec(),
        offset: i64::try_from(offset).unwrap(),
    };
    let mut items = client.attachments().download_attachment(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(item) = items.message().await? {
        assert!(item.data.is_empty() || usize::try_from(item.offset).unwrap() == offset + bytes.len());
        bytes.extend_from_slice(&item.data);
    }
    Ok(bytes)
}

async fn durable(client: &AgencyClient, of: &[u8]) -> usize {
    let request = proto::GetUploadRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        sha256: Sha256::digest(of).to_vec(),
    };
    let known = client.attachments().get_upload(client.request(request, DEADLINE)).await.unwrap();
    usize::try_from(known.into_inner().durable_bytes).unwrap()
}

fn refused(error: TransferError) -> Refused {
    match error {
        TransferError::Refused(status) => Refused::of(&status),
        other => panic!("{other}"),
    }
}

/// The court's receipt for an exchange's opening message.
async fn receipt(scene: &Scene, exchange_id: &str) -> Arm {
    use prost::Message as _;
    let exchange = district::get(&scene.court, exchange_id).await.unwrap().exchange.unwrap();
    let message_sha256 = Sha256::digest(exchange.thread[0].encode_to_vec()).to_vec();
    let received_at = Some(district::wire_time(scene.clock.now().as_second() - 1));
    Arm::Receipt(proto::Receipt { message_sha256, received_at, receipt_number: String::new() })
}

//! What a hostile or broken peer with a perfectly valid certificate does, and what came of it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::peer::{
    END_HEADERS, END_STREAM, FIRST_WINDOW, H2, Identity, Manners, PATIENCE, PREFACE, Peer, Tally, call,
    frame, header_block, kind, message, text,
};

/// A call that an attacker may make and that costs least.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";

const SUBMIT: &str = "/legalaid.exchange.v1.ExchangeService/SubmitExchange";
const LIST_ENTRIES: &str = "/legalaid.exchange.v1.AuditService/ListEntries";

/// Who attacks whom, and with how much.
#[derive(Clone)]
pub(crate) struct Scene {
    /// The gateway's folder.
    pub(crate) folder: PathBuf,
    pub(crate) attacker: Identity,
    /// Connections at once, where an attack is made of those.
    pub(crate) connections: usize,
    /// Calls at once, where it is made of those.
    pub(crate) calls: usize,
    /// Frames or resets, where it is a flood of those.
    pub(crate) frames: usize,
}

/// What came of the parts of an attack: connections, calls or handshakes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) of: usize,
    /// Ended, or refused, by the gateway.
    pub(crate) gone: usize,
    /// Until the last of them was.
    pub(crate) last: Duration,
    /// How, in words, and how often.
    pub(crate) how: BTreeMap<String, usize>,
}

impl Seen {
    fn note(&mut self, how: impl Into<String>, after: Option<Duration>) {
        self.of += 1;
        *self.how.entry(how.into()).or_default() += 1;
        if let Some(after) = after {
            self.gone += 1;
            self.last = self.last.max(after);
        }
    }

    fn note_connection(&mut self, tally: &Tally) {
        let how = match (tally.goaway, tally.ended) {
            (_, None) => "still open".to_owned(),
            (Some(code), _) if code != 0 => format!("GOAWAY {}", h2::Reason::from(code).description()),
            (Some(_), _) => "GOAWAY".to_owned(),
            (None, _) => "closed".to_owned(),
        };
        self.note(how, tally.ended);
    }

    pub(crate) fn all_gone(&self) -> bool {
        self.of > 0 && self.gone == self.of
    }
}

/// The attacks, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Attack {
    SilentTcp,
    DrippedHello,
    SilentAfterTls,
    DrippedPreface,
    NoPings,
    DrippedHeaders,
    EndlessContinuation,
    RapidReset,
    ProvokedResets,
    WindowUpdateOfZero,
    PingFlood,
    SettingsFlood,
    EmptyDataFlood,
    WindowUpdateFlood,
    PriorityFlood,
    HpackBomb,
    HugeHeaders,
    HalfSentMessages,
    DrippedBody,
    ClosedWindow,
    DrippedWindow,
    UnreadSocket,
}

impl Attack {
    #[allow(dead_code, reason = "for the benchmark")]
    pub(crate) const ALL: [Self; 22] = [
        Self::SilentTcp,
        Self::DrippedHello,
        Self::SilentAfterTls,
        Self::DrippedPreface,
        Self::NoPings,
        Self::DrippedHeaders,
        Self::EndlessContinuation,
        Self::RapidReset,
        Self::ProvokedResets,
        Self::WindowUpdateOfZero,
        Self::PingFlood,
        Self::SettingsFlood,
        Self::EmptyDataFlood,
        Self::WindowUpdateFlood,
        Self::PriorityFlood,
        Self::HpackBomb,
        Self::HugeHeaders,
        Self::HalfSentMessages,
        Self::DrippedBody,
        Self::ClosedWindow,
        Self::DrippedWindow,
        Self::UnreadSocket,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::SilentTcp => "TCP connections that say nothing",
            Self::DrippedHello => "a TLS greeting, a byte at a time",
            Self::SilentAfterTls => "silent after TLS",
            Self::DrippedPreface => "an HTTP/2 preface, a byte at a time",
            Self::NoPings => "silent after SETTINGS, answers no ping",
            Self::DrippedHeaders => "a header block, a byte at a time",
            Self::EndlessContinuation => "CONTINUATION without end",
            Self::RapidReset => "calls begun and reset at once",
            Self::ProvokedResets => "calls that the gateway has to reset",
            Self::WindowUpdateOfZero => "WINDOW_UPDATE of 0",
            Self::PingFlood => "PING flood",
            Self::SettingsFlood => "SETTINGS flood",
            Self::EmptyDataFlood => "empty DATA flood",
            Self::WindowUpdateFlood => "WINDOW_UPDATE flood",
            Self::PriorityFlood => "PRIORITY flood",
            Self::HpackBomb => "HPACK bomb",
            Self::HugeHeaders => "huge header lists",
            Self::HalfSentMessages => "messages of 1 MB, half sent",
            Self::DrippedBody => "messages, a byte at a time",
            Self::ClosedWindow => "answers never read: window closed",
            Self::DrippedWindow => "answers read a byte at a time",
            Self::UnreadSocket => "answers never read: window open, socket unread",
        }
    }

    /// Makes the attack and waits for what comes of it.
    pub(crate) async fn make(self, scene: &Scene) -> Seen {
        let ping = frame(kind::PING, 0, 0, &[0; 8]);
        match self {
            Self::SilentTcp => tcp(scene, Vec::new()).await,
            Self::DrippedHello => tcp(scene, vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await,
            Self::SilentAfterTls => after_tls(scene, &[]).await,
            Self::DrippedPreface => after_tls(scene, &PREFACE[..20]).await,
            Self::NoPings => no_pings(scene).await,
            Self::DrippedHeaders => dripped_headers(scene).await,
            Self::EndlessContinuation => {
                let mut first = header_block(HEALTH, &[]);
                first.truncate(20);
                let mut piece = vec![0];
                text(&mut piece, b"x-more");
                text(&mut piece, b"and more");
                let first = frame(kind::HEADERS, 0, 1, &first);
                flood(scene, first, |_| frame(kind::CONTINUATION, 0, 1, &piece)).await
            }
            Self::RapidReset => {
                flood(scene, Vec::new(), |round| {
                    let stream = 1 + 2 * round;
                    let mut bytes = call(stream, HEALTH, &message(100, &[]), false);
                    bytes.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                    bytes
                })
                .await
            }
            Self::ProvokedResets => {
                flood(scene, Vec::new(), |round| {
                    let stream = 1 + 2 * round;
                    let mut bytes = call(stream, HEALTH, &message(100, &[]), false);
                    // More than 2^31-1 altogether: a flow-control error of the stream (RFC 9113 section 6.9.1).
                    bytes.extend(frame(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()));
                    bytes
                })
                .await
            }
            Self::WindowUpdateOfZero => {
                flood(scene, Vec::new(), |round| {
                    let stream = 1 + 2 * round;
                    let mut bytes = call(stream, HEALTH, &message(100, &[]), false);
                    bytes.extend(frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4]));
                    bytes
                })
                .await
            }
            Self::PingFlood => flood(scene, Vec::new(), |_| ping.clone()).await,
            Self::SettingsFlood => {
                flood(scene, Vec::new(), |_| frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])).await
            }
            Self::EmptyDataFlood => {
                let first = frame(kind::HEADERS, END_HEADERS, 1, &header_block(HEALTH, &[]));
                flood(scene, first, |_| frame(kind::DATA, 0, 1, &[])).await
            }
            Self::WindowUpdateFlood => {
                flood(scene, Vec::new(), |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await
            }
            Self::PriorityFlood => {
                flood(scene, Vec::new(), |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 16])).await
            }
            Self::HpackBomb => {
                // One header of 4,000 bytes put into the table, then named by one byte each time (RFC 7541 section 6.1).
                let mut block = header_block(HEALTH, &[]);
                block.push(0x40);
                text(&mut block, b"x-bomb");
                text(&mut block, &[b'a'; 3900]);
                block.extend([0x80 | 62; 12_000]);
                headers(scene, &block).await
            }
            Self::HugeHeaders => {
                let more = [b'a'; 16_000];
                headers(scene, &header_block(HEALTH, &[("x-1", &more), ("x-2", &more), ("x-3", &more)])).await
            }
            Self::HalfSentMessages => bodies(scene, 700_000, Duration::ZERO).await,
            Self::DrippedBody => bodies(scene, 10, Duration::from_millis(500)).await,
            Self::ClosedWindow => unread(scene, Reading::Window(0)).await,
            Self::DrippedWindow => unread(scene, Reading::Window(1)).await,
            Self::UnreadSocket => unread(scene, Reading::Nothing).await,
        }
    }
}

/// An address of loopback for each connection: the gateway bounds what comes from one.
fn address_of(place: usize) -> u8 {
    u8::try_from(2 + place / 32 % 200).unwrap()
}

/// TCP connections that send these bytes, one a quarter of a second, and no more.
async fn tcp(scene: &Scene, dripped: Vec<u8>) -> Seen {
    together(scene.connections, |place| {
        let (attacker, dripped) = (scene.attacker.clone(), dripped.clone());
        async move {
            let opened = Instant::now();
            let Ok(mut stream) = attacker.tcp_from(address_of(place)).await else {
                return ("not accepted".to_owned(), Some(opened.elapsed()));
            };
            drip(&mut stream, &dripped).await;
            until_closed(&mut stream, opened).await
        }
    })
    .await
}

/// The same after a handshake.
async fn after_tls(scene: &Scene, dripped: &[u8]) -> Seen {
    together(scene.connections, |place| {
        let (attacker, dripped) = (scene.attacker.clone(), dripped.to_vec());
        async move {
            let opened = Instant::now();
            let Ok(mut stream) = attacker.tls_from(address_of(place), &[H2]).await else {
                return ("no handshake".to_owned(), Some(opened.elapsed()));
            };
            drip(&mut stream, &dripped).await;
            until_closed(&mut stream, opened).await
        }
    })
    .await
}

async fn together<F>(count: usize, mut each: impl FnMut(usize) -> F) -> Seen
where
    F: Future<Output = (String, Option<Duration>)> + Send + 'static,
{
    let mut tasks: JoinSet<_> = (0..count).map(&mut each).collect();
    let mut seen = Seen::default();
    while let Some(done) = tasks.join_next().await {
        let (how, after) = done.unwrap();
        seen.note(how, after);
    }
    seen
}

async fn drip(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn until_closed(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    opened: Instant,
) -> (String, Option<Duration>) {
    let mut rest = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut rest)).await {
        Ok(_) => ("closed".to_owned(), Some(opened.elapsed())),
        Err(_) => ("still open".to_owned(), None),
    }
}

/// Connections that acknowledge nothing.
async fn no_pings(scene: &Scene) -> Seen {
    together(scene.connections.min(100), |place| {
        let attacker = scene.attacker.clone();
        async move {
            let opened = Instant::now();
            match attacker.peer_from(address_of(place), Manners::Mute, &[]).await {
                Ok(mut peer) => ended(&peer.until_gone().await),
                Err(_) => ("not admitted".to_owned(), Some(opened.elapsed())),
            }
        }
    })
    .await
}

fn ended(tally: &Tally) -> (String, Option<Duration>) {
    let mut seen = Seen::default();
    seen.note_connection(tally);
    (seen.how.into_keys().next().unwrap_or_default(), tally.ended)
}

/// Connections that begin a header block and send it a byte at a time. They answer no ping: inside a frame they cannot.
async fn dripped_headers(scene: &Scene) -> Seen {
    together(scene.connections.min(100), |place| {
        let attacker = scene.attacker.clone();
        async move {
            let opened = Instant::now();
            let Ok(mut peer) = attacker.peer_from(address_of(place), Manners::Mute, &[]).await else {
                return ("not admitted".to_owned(), Some(opened.elapsed()));
            };
            let begun = frame(kind::HEADERS, END_HEADERS, 1, &header_block(HEALTH, &[]));
            for byte in begun {
                if peer.send(&[byte]).await.is_err() || peer.tally().ended.is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            ended(&peer.until_gone().await)
        }
    })
    .await
}

/// One connection that sends `frames` frames as fast as they go.
async fn flood(scene: &Scene, first: Vec<u8>, each: impl Fn(u32) -> Vec<u8>) -> Seen {
    let mut peer = scene.attacker.peer(Manners::Polite, &[]).await.expect("a valid certificate is let in");
    let mut seen = Seen::default();
    let mut sent = 0;
    if peer.send(&first).await.is_ok() {
        // Some frames a write, so that the gateway is what bounds them.
        while sent < scene.frames && peer.tally().ended.is_none() {
            let round = u32::try_from(sent).unwrap();
            let bytes: Vec<u8> = (round..round + 20).flat_map(&each).collect();
            if peer.send(&bytes).await.is_err() {
                break;
            }
            sent += 20;
        }
    }
    let tally = if sent < scene.frames { peer.until_gone().await } else { peer.tally() };
    seen.note_connection(&tally);
    seen
}

/// One connection that sends calls with this header block.
async fn headers(scene: &Scene, block: &[u8]) -> Seen {
    let mut peer = scene.attacker.peer(Manners::Polite, &[]).await.expect("a valid certificate is let in");
    let mut seen = Seen::default();
    for round in 0..50 {
        let stream = 1 + 2 * round;
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        let mut bytes = Vec::new();
        for (place, piece) in pieces.iter().enumerate() {
            let kind = if place == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let mut flags = if place == 0 { END_STREAM } else { 0 };
            if place + 1 == pieces.len() {
                flags |= END_HEADERS;
            }
            bytes.extend(frame(kind, flags, stream, piece));
        }
        if peer.send(&bytes).await.is_err() {
            break;
        }
    }
    let tally = peer.until(|tally| tally.header_blocks + tally.resets.values().sum::<usize>() >= 50).await;
    if tally.ended.is_some() {
        seen.note_connection(&peer.until_gone().await);
    } else {
        seen.note("each answered 431", Some(Duration::ZERO));
    }
    seen
}

/// Calls of 1 MB each that send `sent` bytes, a piece each `pause`, and never the rest.
async fn bodies(scene: &Scene, sent: usize, pause: Duration) -> Seen {
    const LENGTH: usize = 1_000_000;
    let per_connection = 10;
    together(scene.calls.div_ceil(per_connection), |place| {
        let attacker = scene.attacker.clone();
        async move {
            let opened = Instant::now();
            let Ok(peer) = attacker.peer_from(address_of(place), Manners::Polite, &[]).await else {
                return ("not admitted".to_owned(), Some(opened.elapsed()));
            };
            let streams = || (0..per_connection).map(|call| 1 + 2 * u32::try_from(call).unwrap());
            for stream in streams() {
                let _sent = peer.send(&call(stream, SUBMIT, &message(LENGTH, &[]), false)).await;
            }
            // As far as the gateway opens its windows, and no further: it is the calls' own bytes that count here.
            let piece = if pause.is_zero() { vec![1; 5000] } else { vec![1] };
            let mut sent_on: BTreeMap<u32, usize> = streams().map(|stream| (stream, 5)).collect();
            while opened.elapsed() < PATIENCE && sent_on.values().any(|bytes| *bytes < sent) {
                let tally = peer.tally();
                if tally.header_blocks >= per_connection || tally.ended.is_some() {
                    break;
                }
                let opened_by = |stream| tally.windows.get(&stream).copied().unwrap_or(0);
                let mut room = (FIRST_WINDOW + opened_by(0)).saturating_sub(sent_on.values().sum());
                for (stream, bytes) in &mut sent_on {
                    let fits = *bytes + piece.len() <= peer.stream_window + opened_by(*stream);
                    if room >= piece.len() && fits && *bytes < sent {
                        let _sent = peer.send(&frame(kind::DATA, 0, *stream, &piece)).await;
                        *bytes += piece.len();
                        room -= piece.len();
                    }
                }
                tokio::time::sleep(pause.max(Duration::from_millis(5))).await;
            }
            let tally = peer.until(|tally| tally.header_blocks >= per_connection).await;
            if tally.ended.is_some() {
                return ended(&tally);
            }
            let all = tally.header_blocks >= per_connection;
            ("each call refused".to_owned(), all.then(|| opened.elapsed()))
        }
    })
    .await
}

/// How a peer takes its answers.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// With a window of so many bytes, opened again by one byte each half second.
    Window(u32),
    /// With every window open, and the socket never read.
    Nothing,
}

/// Calls with large answers that are not read.
async fn unread(scene: &Scene, reading: Reading) -> Seen {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let auditor = Identity::load(&scene.folder, "auditor");
    let client = AgencyClient::load(&scene.folder.join("auditor.toml"), Clock::system()).unwrap();
    let per_connection = 50;
    together(scene.calls.div_ceil(per_connection), |place| {
        let auditor = auditor.clone();
        let request = Arc::new(request_for_entries(&client));
        async move {
            let opened = Instant::now();
            let (manners, window) = match reading {
                Reading::Window(window) => (Manners::Polite, window),
                Reading::Nothing => (Manners::Blind, 0x7fff_ffff),
            };
            let peer = auditor.peer_from(address_of(place), manners, &[(INITIAL_WINDOW_SIZE, window)]).await;
            let Ok(mut peer) = peer else {
                return ("not admitted".to_owned(), Some(opened.elapsed()));
            };
            let streams = || (0..per_connection).map(|call| 1 + 2 * u32::try_from(call).unwrap());
            if let Reading::Nothing = reading {
                let _sent =
                    peer.send(&frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes())).await;
            }
            for stream in streams() {
                let body = message(request.len(), &request);
                if peer.send(&call(stream, LIST_ENTRIES, &body, true)).await.is_err() {
                    break;
                }
            }
            match reading {
                Reading::Nothing => ended(&peer.until_gone().await),
                Reading::Window(window) => read_slowly(&peer, per_connection, window, opened).await,
            }
        }
    })
    .await
}

/// Opens each call's window by a byte now and then, until each was taken back or refused.
async fn read_slowly(peer: &Peer, calls: usize, by: u32, opened: Instant) -> (String, Option<Duration>) {
    loop {
        let tally = peer.tally();
        let taken_back: usize = tally.resets.values().sum();
        if tally.ended.is_some() {
            return ended(&tally);
        }
        if taken_back + tally.finished >= calls {
            let how =
                if taken_back == 0 { "each call refused" } else { "each answer taken back, or call refused" };
            return (how.to_owned(), Some(opened.elapsed()));
        }
        if opened.elapsed() > PATIENCE {
            return (format!("{taken_back} taken back, {} refused, of {calls}", tally.finished), None);
        }
        if by > 0 {
            for call in 0..calls {
                let stream = 1 + 2 * u32::try_from(call).unwrap();
                let _sent = peer.send(&frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn request_for_entries(auditor: &AgencyClient) -> Vec<u8> {
    let context = Some(auditor.context(purposes::AUDIT_INSPECTION));
    proto::ListEntriesRequest { context, page_size: 500, ..Default::default() }.encode_to_vec()
}

/// A request by hand over a client for HTTP/2 that knows nothing of gRPC: its HTTP status, and the gRPC code in headers or
/// trailers.
#[allow(dead_code, reason = "for the tests")]
pub(crate) async fn request(
    attacker: &Identity,
    request: Request<()>,
    body: Bytes,
) -> io::Result<(u16, Option<String>)> {
    let stream = attacker.tls_from(1, &[H2]).await?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.map_err(io::Error::other)?;
    let (response, mut out) = client.send_request(request, false).map_err(io::Error::other)?;
    out.send_data(body, true).map_err(io::Error::other)?;
    let response = timeout(PATIENCE, response).await?.map_err(io::Error::other)?;
    let code = |headers: &http::HeaderMap| {
        headers.get("grpc-status").and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (status, mut found) = (response.status().as_u16(), code(response.headers()));
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data.map_err(io::Error::other)?;
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
    }
    if let Some(trailers) = body.trailers().await.map_err(io::Error::other)? {
        found = found.or(code(&trailers));
    }
    connection.abort();
    Ok((status, found))
}

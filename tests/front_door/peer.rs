//! A peer with a valid certificate that speaks TLS and HTTP/2 as it likes: frames made by hand, and no client library.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex as Shared};
use std::time::{Duration, Instant};

use legal_aid_gateway::client::Profile;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any deadline of the gateway; only who is not thrown out waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const H2: &[u8] = b"h2";

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a window is before anybody says otherwise (RFC 9113 section 6.9.2).
pub(crate) const FIRST_WINDOW: usize = 65_535;

/// Error codes (RFC 9113 section 7).
#[allow(dead_code, reason = "for the tests")]
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Who attacks: certificate, key, and where the gateway is.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) gateway: SocketAddr,
    roots: Arc<RootCertStore>,
    shown: Option<Arc<CertifiedKey>>,
}

impl Identity {
    /// The agency of that name in a folder as `init` makes it.
    pub(crate) fn load(folder: &Path, name: &str) -> Self {
        let profile = Profile::load(&folder.join(format!("{name}.toml"))).unwrap();
        let read = |path: &Path| std::fs::read(path).unwrap();
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&read(&profile.tls.authorities)) {
            roots.add(root.unwrap()).unwrap();
        }
        let gateway = profile.gateway.address.parse().unwrap();
        let identity = Self { gateway, roots: Arc::new(roots), shown: None };
        identity.showing(&read(&profile.tls.certificate), &read(&profile.tls.private_key))
    }

    /// The same with another certificate chain.
    pub(crate) fn showing(&self, chain: &[u8], key: &[u8]) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key).unwrap();
        // Not `from_der`, which wants the key to fit: a stolen certificate comes without its key.
        let key = provider().key_provider.load_private_key(key).unwrap();
        Self { shown: Some(Arc::new(CertifiedKey::new(chain, key))), ..self.clone() }
    }

    /// The same without a certificate.
    pub(crate) fn showing_nothing(&self) -> Self {
        Self { shown: None, ..self.clone() }
    }

    /// A TCP connection from an address of loopback.
    pub(crate) async fn tcp_from(&self, last: u8) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        socket.connect(self.gateway).await
    }

    /// TLS over it, and the alert that came instead.
    pub(crate) async fn tls_from(&self, last: u8, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(shown))))
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp_from(last).await?).await
    }

    /// HTTP/2 with these settings; the gateway's are read and acknowledged.
    pub(crate) async fn peer(&self, manners: Manners, settings: &[(u16, u32)]) -> io::Result<Peer> {
        self.peer_from(1, manners, settings).await
    }

    /// The same from an address of loopback.
    pub(crate) async fn peer_from(
        &self,
        last: u8,
        manners: Manners,
        settings: &[(u16, u32)],
    ) -> io::Result<Peer> {
        let mut stream = self.tls_from(last, &[H2]).await?;
        let mut first = PREFACE.to_vec();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
            .collect();
        first.extend(frame(kind::SETTINGS, 0, 0, &settings));
        first.extend(frame(kind::SETTINGS, ACK, 0, &[]));
        stream.write_all(&first).await?;
        // Whoever is let in is told the gateway's settings.
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        assert_eq!(head[3], kind::SETTINGS);
        let mut body = vec![0; length_of(&head)];
        stream.read_exact(&mut body).await?;
        let mut peer = Peer::start(stream, manners);
        let settings = body.chunks_exact(6).find(|setting| setting[..2] == [0, 4]);
        if let Some(setting) = settings {
            peer.stream_window = u32::from_be_bytes(setting[2..].try_into().unwrap()) as usize;
        }
        Ok(peer)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// How a peer behaves towards what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Reads all, and acknowledges settings and pings.
    Polite,
    /// Reads all and acknowledges nothing.
    Mute,
    /// Reads nothing.
    Blind,
}

/// What came back on a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Header blocks: answers, and what ends them.
    pub(crate) header_blocks: usize,
    pub(crate) data_bytes: usize,
    /// Streams that the gateway brought to their end.
    pub(crate) finished: usize,
    /// Bytes by which windows were opened beyond what they began with, by stream; 0 is the connection.
    pub(crate) windows: BTreeMap<u32, usize>,
    /// Streams that were reset, by error code.
    pub(crate) resets: BTreeMap<u32, usize>,
    /// What the connection was ended with.
    pub(crate) goaway: Option<u32>,
    /// How long the connection lasted; `None` while it does.
    pub(crate) ended: Option<Duration>,
}

/// One HTTP/2 connection.
pub(crate) struct Peer {
    out: Arc<Mutex<WriteHalf<TlsStream<TcpStream>>>>,
    tally: Arc<Shared<Tally>>,
    opened: Instant,
    /// What each stream's window begins with.
    pub(crate) stream_window: usize,
    reader: Option<JoinHandle<()>>,
    /// Kept open, and not read.
    unread: Option<ReadHalf<TlsStream<TcpStream>>>,
}

impl Peer {
    fn start(stream: TlsStream<TcpStream>, manners: Manners) -> Self {
        let (incoming, out) = tokio::io::split(stream);
        let out = Arc::new(Mutex::new(out));
        let tally = Arc::new(Shared::new(Tally::default()));
        let opened = Instant::now();
        let mut peer = Self { out, tally, opened, stream_window: FIRST_WINDOW, reader: None, unread: None };
        if manners == Manners::Blind {
            peer.unread = Some(incoming);
        } else {
            let (out, tally) = (Arc::clone(&peer.out), Arc::clone(&peer.tally));
            peer.reader = Some(tokio::spawn(async move {
                let _ended = read(incoming, &out, &tally, manners).await;
                tally.lock().unwrap().ended.get_or_insert_with(|| opened.elapsed());
            }));
        }
        peer
    }

    /// Sends bytes; an error when the gateway has ended the connection.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock().await;
        match timeout(PATIENCE, out.write_all(bytes)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        out.flush().await
    }

    /// What came back so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until something of what comes back is as wanted, or the connection has ended.
    pub(crate) async fn until(&self, wanted: impl Fn(&Tally) -> bool) -> Tally {
        let reached = async {
            loop {
                let tally = self.tally();
                if wanted(&tally) || tally.ended.is_some() {
                    return tally;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| self.tally())
    }

    /// Waits until the gateway has ended the connection, or too long.
    pub(crate) async fn until_gone(&mut self) -> Tally {
        match self.reader.take() {
            Some(mut reader) => {
                if timeout(PATIENCE, &mut reader).await.is_err() {
                    reader.abort();
                }
            }
            None => {
                let ping = frame(kind::PING, 0, 0, &[0; 8]);
                let refused = async {
                    while self.send(&ping).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(250)).await;
                    }
                };
                if timeout(PATIENCE, refused).await.is_ok() {
                    self.tally.lock().unwrap().ended = Some(self.opened.elapsed());
                }
            }
        }
        self.tally()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Who reads holds the connection open.
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

async fn read(
    mut incoming: ReadHalf<TlsStream<TcpStream>>,
    out: &Mutex<WriteHalf<TlsStream<TcpStream>>>,
    tally: &Shared<Tally>,
    manners: Manners,
) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        incoming.read_exact(&mut head).await?;
        let mut body = vec![0; length_of(&head)];
        incoming.read_exact(&mut body).await?;
        let code = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        let answer = match (head[3], head[4] & ACK) {
            (kind::SETTINGS, 0) => Some(frame(kind::SETTINGS, ACK, 0, &[])),
            (kind::PING, 0) => Some(frame(kind::PING, ACK, 0, &body)),
            _ => None,
        };
        {
            let mut tally = tally.lock().unwrap();
            if matches!(head[3], kind::HEADERS | kind::DATA) && head[4] & END_STREAM != 0 {
                tally.finished += 1;
            }
            match head[3] {
                kind::HEADERS => tally.header_blocks += 1,
                kind::DATA => tally.data_bytes += body.len(),
                kind::RST_STREAM => *tally.resets.entry(code(0)).or_default() += 1,
                kind::GOAWAY => tally.goaway = Some(code(4)),
                kind::WINDOW_UPDATE => {
                    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                    *tally.windows.entry(stream).or_default() += code(0) as usize;
                }
                _ => {}
            }
        }
        if let (Some(answer), Manners::Polite) = (answer, manners) {
            let mut out = out.lock().await;
            out.write_all(&answer).await?;
            out.flush().await?;
        }
    }
}

fn length_of(head: &[u8; 9]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// A frame, well formed or not.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a call: every header literal, nothing indexed (RFC 7541 section 6.2.2).
pub(crate) fn header_block(path: &str, further: &[(&str, &[u8])]) -> Vec<u8> {
    let usual: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"https"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(further) {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value);
    }
    block
}

/// A length and a text that is not Huffman-coded (RFC 7541 sections 5.1 and 5.2).
pub(crate) fn text(block: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..127) => block.push(length),
        _ => {
            let mut rest = text.len() - 127;
            block.push(127);
            while rest >= 128 {
                block.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
                rest >>= 7;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend(text);
}

/// A whole call: headers, and a message that is whole or not.
pub(crate) fn call(stream: u32, path: &str, body: &[u8], ends: bool) -> Vec<u8> {
    let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &header_block(path, &[]));
    let pieces: Vec<&[u8]> = body.chunks(16_384).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let last = ends && place + 1 == pieces.len();
        bytes.extend(frame(kind::DATA, if last { END_STREAM } else { 0 }, stream, piece));
    }
    bytes
}

/// A message as gRPC frames it, of which the body may hold less than it says.
pub(crate) fn message(length: usize, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[0], length.as_slice(), body].concat()
}

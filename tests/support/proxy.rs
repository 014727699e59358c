//! A line between two parties that a test cuts, or lets swallow what comes back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections, as a balancer does that lets TLS pass through: to the next of its targets that takes them.
pub(crate) struct Proxy {
    state: Arc<State>,
    cut: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

struct State {
    targets: Vec<SocketAddr>,
    next: AtomicUsize,
    /// Whether what comes back is swallowed.
    swallows: AtomicBool,
}

impl Proxy {
    /// Listens at `address` and forwards to `targets`.
    pub(crate) async fn start(address: SocketAddr, targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(State { targets, next: AtomicUsize::new(0), swallows: AtomicBool::new(false) });
        let cut = watch::Sender::new(());
        let (of_task, cuts) = (Arc::clone(&state), cut.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, Arc::clone(&of_task), cuts.subscribe()));
            }
        });
        Self { state, cut, accepting }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Lets what is asked go through and nothing come back for a while, then cuts all connections.
    pub(crate) async fn lose_replies(&self, for_a_while: Duration) {
        self.state.swallows.store(true, Ordering::SeqCst);
        tokio::time::sleep(for_a_while).await;
        self.cut();
        self.state.swallows.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, state: Arc<State>, mut cut: watch::Receiver<()>) {
    let Some(server) = state.connect().await else { return };
    for line in [&client, &server] {
        let _ = line.set_nodelay(true);
    }
    let ((mut asks, mut is_told), (mut answers, mut is_asked)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = cut.changed() => {}
        () = copy(&mut asks, &mut is_asked, || true) => {}
        () = copy(&mut answers, &mut is_told, || !state.swallows.load(Ordering::SeqCst)) => {}
    }
}

impl State {
    async fn connect(&self) -> Option<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::SeqCst);
        for place in first..first + self.targets.len() {
            if let Ok(server) = TcpStream::connect(self.targets[place % self.targets.len()]).await {
                return Some(server);
            }
        }
        None
    }
}

/// Copies until either side ends.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    passes: impl Fn() -> bool,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if passes() && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

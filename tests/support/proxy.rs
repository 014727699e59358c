//! A line between two parties that a test cuts, or lets swallow what goes over it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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
    mishap: Mutex<Option<Mishap>>,
}

/// What is wrong with the line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// What is asked goes through, and nothing comes back.
    LosesReplies,
    /// Nothing goes through.
    LosesAll,
    /// Nobody is there.
    IsAway,
}

impl Proxy {
    /// Listens at `address` and forwards to `targets`.
    pub(crate) async fn start(address: SocketAddr, targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(State { targets, next: AtomicUsize::new(0), mishap: Mutex::default() });
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

    /// Has something wrong with it for a while; then, or before when nobody is there, it cuts all connections.
    pub(crate) async fn suffers(&self, mishap: Mishap, for_a_while: Duration) {
        *self.state.mishap.lock().unwrap() = Some(mishap);
        if mishap == Mishap::IsAway {
            self.cut();
        }
        tokio::time::sleep(for_a_while).await;
        self.cut();
        *self.state.mishap.lock().unwrap() = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, state: Arc<State>, mut cut: watch::Receiver<()>) {
    if state.suffers(&[Mishap::IsAway]) {
        return;
    }
    let Some(server) = state.connect().await else { return };
    for line in [&client, &server] {
        let _ = line.set_nodelay(true);
    }
    let ((mut asks, mut is_told), (mut answers, mut is_asked)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = cut.changed() => {}
        () = copy(&mut asks, &mut is_asked, || !state.suffers(&[Mishap::LosesAll])) => {}
        () = copy(&mut answers, &mut is_told, || !state.suffers(&[Mishap::LosesAll, Mishap::LosesReplies])) => {}
    }
}

impl State {
    fn suffers(&self, among: &[Mishap]) -> bool {
        self.mishap.lock().unwrap().is_some_and(|mishap| among.contains(&mishap))
    }

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

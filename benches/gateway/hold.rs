//! Connections that are open and idle.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::parties::{Certificates, Party, endpoint};
use crate::processes::announce;

/// Handshakes at once; the gateway takes no more than 64 of one address.
const AT_ONCE: usize = 16;

/// Which connections to hold.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Hold {
    #[arg(long)]
    target: SocketAddr,
    /// How many, spread over the centres.
    #[arg(long)]
    connections: usize,
}

/// Opens them with one call each, says so, and holds them until it is ended.
pub(crate) async fn run(certificates: &Certificates, role: Hold) -> Result<()> {
    let endpoint = endpoint(role.target, Party::Gateway)?;
    let mut diallers = Vec::new();
    for centre in Party::CENTRES {
        diallers.push(certificates.dialler(centre)?);
    }
    let mut held = Vec::with_capacity(role.connections);
    let mut opening = JoinSet::new();
    for number in 0..role.connections {
        let channel = diallers[number % diallers.len()].channel(&endpoint)?;
        opening.spawn(async move {
            let mut client = HealthClient::new(channel.clone());
            client.check(HealthCheckRequest::default()).await.map(|_| channel)
        });
        if opening.len() >= AT_ONCE {
            held.push(opening.join_next().await.context("none is opening")???);
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    announce(role.target);
    std::future::pending::<()>().await;
    drop(held);
    Ok(())
}

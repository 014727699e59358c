//! The gateway itself: the real program, set up as `init` would, in front of a bare registry.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use legal_aid_gateway::config::KeysSection;
use legal_aid_gateway::gateway::Secrets;
use tokio::process::Command;
use tokio::time::sleep;

use crate::message::{PURPOSE, REGION};
use crate::parties::{Certificates, Party, SERVER_NAME, endpoint};
use crate::processes::{Server, tail};

const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the gateway with its files in `folder`, asking the registry at `registry`.
pub(crate) async fn start_gateway(
    certificates: &Certificates,
    folder: &Path,
    registry: SocketAddr,
) -> Result<Server> {
    let address = free_address()?;
    write_files(certificates, folder, address, registry)?;
    let log = folder.join("gateway.log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
        .args(["serve", "--config"])
        .arg(folder.join("gateway.toml"))
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("gateway.out"))?)
        .stderr(File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;

    let (dialler, endpoint) = (certificates.dialler(Party::Centre)?, endpoint(address, Party::Gateway)?);
    let started = Instant::now();
    while let Err(error) = dialler.probe(&endpoint).await {
        if let Some(status) = child.try_wait()? {
            bail!("the gateway ended with {status}:\n{}", tail(&log));
        }
        if started.elapsed() > PATIENCE {
            bail!("the gateway does not answer ({error}):\n{}", tail(&log));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(Server::listening(child, address, Party::Gateway))
}

fn write_files(
    certificates: &Certificates,
    folder: &Path,
    address: SocketAddr,
    registry: SocketAddr,
) -> Result<()> {
    let [log, body, pseudonym] = ["log.key", "body.key", "pseudonym.key"].map(|name| folder.join(name));
    Secrets::create(&KeysSection { log, body, pseudonym }, "benchmark.invalid/audit")?;
    std::fs::write(folder.join("directory.toml"), directory(registry))?;
    std::fs::write(folder.join("gateway.toml"), config(certificates, address))?;
    Ok(())
}

/// Nothing but what has no default: the figures are those of a gateway as it comes.
fn config(certificates: &Certificates, address: SocketAddr) -> String {
    format!(
        r#"[gateway]
agency = "{agency}"
listen = "{address}"
directory = "directory.toml"
[tls]
certificate = {certificate:?}
private_key = {key:?}
authorities = {authorities:?}
[store]
database = "gateway.db"
[keys]
log = "log.key"
body = "body.key"
pseudonym = "pseudonym.key"
"#,
        agency = Party::Gateway.code(),
        certificate = certificates.certificate(Party::Gateway),
        key = certificates.key(Party::Gateway),
        authorities = certificates.authority(),
    )
}

fn directory(registry: SocketAddr) -> String {
    format!(
        r#"[[agency]]
code = "{gateway_code}"
name = "gateway"
kind = "gateway"
region = "330000"
[[agency]]
code = "{centre_code}"
name = "路桥区法律援助中心"
kind = "legal-aid-centre"
region = "{REGION}"
[[agency]]
code = "{registry_code}"
name = "浙江省民政厅"
kind = "civil-affairs-registry"
region = "330000"
endpoint = {{ address = "{registry}", server_name = "{SERVER_NAME}" }}
[[agreement]]
id = "BENCHMARK-1"
version = 1
caller = "{centre_code}"
methods = ["VerifyLowIncome"]
counterparts = ["{registry_code}"]
purposes = ["{PURPOSE}"]
from = "2020-01-01"
until = "2099-12-31"
"#,
        gateway_code = Party::Gateway.code(),
        centre_code = Party::Centre.code(),
        registry_code = Party::Registry.code(),
    )
}

/// A port that was free a moment ago: the configuration must name one, and the gateway binds it next.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

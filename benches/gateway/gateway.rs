//! The gateway itself: the real program, set up as `init` would, in front of a bare registry.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use legal_aid_gateway::config::KeysSection;
use legal_aid_gateway::gateway::Secrets;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

use crate::message::{COURT, PURPOSE, REGION, SUBMISSION_PURPOSE};
use crate::parties::{Certificates, Party, SERVER_NAME};
use crate::processes::{Server, tail};

/// Starts the gateway with its files in `folder`, asking the registry at `registry`.
pub(crate) async fn start_gateway(
    certificates: &Certificates,
    folder: &Path,
    registry: SocketAddr,
) -> Result<Server> {
    write_files(certificates, folder, registry)?;
    let log = folder.join("gateway.log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
        .args(["serve", "--json", "--config"])
        .arg(folder.join("gateway.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the gateway's output is not piped")?;
    let Ready { listening } = ready(BufReader::new(stdout))
        .await
        .with_context(|| format!("the gateway did not start:\n{}", tail(&log)))?;
    Ok(Server::listening(child, listening, Party::Gateway))
}

/// What `serve --json` prints once it serves.
#[derive(Deserialize)]
struct Ready {
    listening: SocketAddr,
}

/// The JSON may span lines, and the output stays open after it.
async fn ready(mut output: BufReader<ChildStdout>) -> Result<Ready> {
    let mut text = String::new();
    while output.read_line(&mut text).await? > 0 {
        if let Ok(ready) = serde_json::from_str(&text) {
            return Ok(ready);
        }
    }
    bail!("it said {text:?}")
}

fn write_files(certificates: &Certificates, folder: &Path, registry: SocketAddr) -> Result<()> {
    let [log, body, pseudonym] = ["log.key", "body.key", "pseudonym.key"].map(|name| folder.join(name));
    Secrets::create(
        &KeysSection { log, body, pseudonym, pseudonym_earlier: Vec::new() },
        "benchmark.invalid/audit",
    )?;
    std::fs::write(folder.join("directory.toml"), directory(registry))?;
    std::fs::write(folder.join("gateway.toml"), config(certificates))?;
    Ok(())
}

/// Nothing but what has no default: the figures are those of a gateway as it comes.
fn config(certificates: &Certificates) -> String {
    format!(
        r#"[gateway]
agency = "{agency}"
listen = "127.0.0.1:0"
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
[[agency]]
code = "{COURT}"
name = "路桥区人民法院"
kind = "court"
region = "{REGION}"
[[agreement]]
id = "BENCHMARK-2"
version = 1
caller = "{centre_code}"
methods = ["SubmitExchange"]
counterparts = ["{COURT}"]
purposes = ["{SUBMISSION_PURPOSE}"]
from = "2020-01-01"
until = "2099-12-31"
[[agreement]]
id = "BENCHMARK-1"
version = 1
caller = "{centre_code}"
methods = ["VerifyLowIncome", "BatchVerify"]
batch = {{ at_once = 64, per_second = 10000 }}
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

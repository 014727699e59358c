//! The gateway itself: the real program, set up as `init` would, in front of a bare registry.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use legal_aid_gateway::config::KeysSection;
use legal_aid_gateway::gateway::Secrets;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;

use crate::message::{COURT, PURPOSE, REGION, SUBMISSION_PURPOSE};
use crate::parties::{Certificates, Party, SERVER_NAME};
use crate::processes::{Server, on_core, tail};

/// Where the others are that a gateway is started among.
#[derive(Clone, Default)]
pub(crate) struct Neighbours {
    /// The registry that it asks.
    pub(crate) registry: Option<SocketAddr>,
    /// Courts that it pushes to.
    pub(crate) courts: Vec<(Party, SocketAddr)>,
    /// Where it is to listen; anywhere unless set.
    pub(crate) listen: Option<SocketAddr>,
    /// The core that it is held to.
    pub(crate) core: Option<usize>,
    /// Deliveries at once to one recipient; as it comes unless set.
    pub(crate) per_recipient: Option<usize>,
    /// Its PostgreSQL database; a file in its folder unless set.
    pub(crate) database: Option<String>,
}

/// Starts the gateway with its files in `folder`, asking the registry at `registry`.
pub(crate) async fn start_gateway(
    certificates: &Certificates,
    folder: &Path,
    registry: SocketAddr,
) -> Result<Server> {
    let neighbours = Neighbours { registry: Some(registry), ..Neighbours::default() };
    write_files(certificates, folder, &neighbours)?;
    start(folder, neighbours.core).await
}

/// Starts the gateway whose files are in `folder`, held to a core if one is given.
pub(crate) async fn start(folder: &Path, core: Option<usize>) -> Result<Server> {
    let log = folder.join("gateway.log");
    let mut child = on_core(PROGRAM, core)
        .args(["serve", "--json", "--config"])
        .arg(folder.join("gateway.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the gateway's output is not piped")?;
    let mut output = BufReader::new(stdout);
    let Ready { listening } =
        ready(&mut output).await.with_context(|| format!("the gateway did not start:\n{}", tail(&log)))?;
    Ok(Server::listening(child, listening, Party::Gateway, output))
}

/// The program that is measured.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_legal-aid-gateway");

/// What `serve --json` prints once it serves.
#[derive(Deserialize)]
struct Ready {
    listening: SocketAddr,
}

/// The JSON may span lines, and the output stays open after it.
async fn ready(output: &mut BufReader<ChildStdout>) -> Result<Ready> {
    let mut text = String::new();
    while output.read_line(&mut text).await? > 0 {
        if let Ok(ready) = serde_json::from_str(&text) {
            return Ok(ready);
        }
    }
    bail!("it said {text:?}")
}

/// Makes its keys and writes its files.
pub(crate) fn write_files(certificates: &Certificates, folder: &Path, neighbours: &Neighbours) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    Secrets::create(&keys(folder), "benchmark.invalid/audit")?;
    std::fs::write(folder.join("directory.toml"), directory(neighbours))?;
    let mut text = config(certificates, neighbours.listen);
    if let Some(url) = &neighbours.database {
        text = text.replace("\"gateway.db\"", &format!("{url:?}"));
    }
    if let Some(at_once) = neighbours.per_recipient {
        text += &format!("[delivery]\nper_recipient = {at_once}\n");
    }
    std::fs::write(folder.join("gateway.toml"), text)?;
    Ok(())
}

/// Where its keys are.
pub(crate) fn keys(folder: &Path) -> KeysSection {
    let [log, body, pseudonym] = ["log.key", "body.key", "pseudonym.key"].map(|name| folder.join(name));
    KeysSection { log, body, pseudonym, pseudonym_earlier: Vec::new() }
}

/// What has no default, and room for all connections that are held and all calls of one caller: else the figures are those of a gateway as it comes.
fn config(certificates: &Certificates, listen: Option<SocketAddr>) -> String {
    format!(
        r#"[gateway]
agency = "{agency}"
listen = "{listen}"
directory = "directory.toml"
development = true
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
[front_door]
connections_per_agency = 1024
[upstream]
questions = 1024
questions_per_caller = 512
"#,
        agency = Party::Gateway.code(),
        listen = listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()),
        certificate = certificates.certificate(Party::Gateway),
        key = certificates.key(Party::Gateway),
        authorities = certificates.authority(),
    )
}

fn directory(neighbours: &Neighbours) -> String {
    let address = |party: Party| match party {
        // A registry must be somewhere, also where nobody asks it.
        Party::Registry => Some(neighbours.registry.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 9).into())),
        _ => neighbours.courts.iter().find(|(court, _)| *court == party).map(|(_, address)| *address),
    };
    let agency = |party: Party, name: &str, kind: &str, region: &str| {
        let endpoint = address(party).map(|address| {
            format!("endpoint = {{ address = \"{address}\", server_name = \"{SERVER_NAME}\" }}\n")
        });
        format!(
            "[[agency]]\ncode = \"{}\"\nname = \"{name}\"\nkind = \"{kind}\"\nregion = \"{region}\"\n{}",
            party.code(),
            endpoint.unwrap_or_default()
        )
    };
    let mut text = agency(Party::Gateway, "gateway", "gateway", "330000");
    text += &agency(Party::Registry, "浙江省民政厅", "civil-affairs-registry", "330000");
    for centre in Party::CENTRES {
        text += &agency(centre, "路桥区法律援助中心", "legal-aid-centre", REGION);
    }
    for court in Party::COURTS {
        text += &agency(court, "路桥区人民法院", "court", REGION);
    }
    text += &format!(
        "[[agency]]\ncode = \"{COURT}\"\nname = \"路桥区人民法院\"\nkind = \"court\"\nregion = \"{REGION}\"\n"
    );
    let [court, dead, stalling] = Party::COURTS.map(Party::code);
    let centre = Party::Centre.code();
    text += &agreement(2, centre, "\"SubmitExchange\"", &[COURT, court, dead, stalling], SUBMISSION_PURPOSE);
    text += &agreement(3, court, "\"RespondToExchange\"", &[centre], SUBMISSION_PURPOSE);
    let questions = "\"VerifyLowIncome\", \"BatchVerify\"";
    text += &agreement(1, centre, questions, &[Party::Registry.code()], PURPOSE);
    text += "batch = { at_once = 64, per_second = 10000 }\n";
    text
}

fn agreement(number: u32, caller: &str, methods: &str, counterparts: &[&str], purpose: &str) -> String {
    format!(
        r#"[[agreement]]
id = "BENCHMARK-{number}"
version = 1
caller = "{caller}"
methods = [{methods}]
counterparts = {counterparts:?}
purposes = ["{purpose}"]
from = "2020-01-01"
until = "2099-12-31"
"#
    )
}

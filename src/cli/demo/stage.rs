//! Sets the stage: the folder that `init` makes, with more on the register and the scripts of who acts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::audit::cosignature::CosigningKey;
use crate::audit::note::SigningKey;
use crate::client::Profile;
use crate::clock::Clock;
use crate::config::{ENVIRONMENT_PREFIX, WitnessSection, WitnessedLog, load_table};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::Kind;
use crate::entropy;
use crate::identity::key_file;
use crate::setup::codes;
use crate::simulator::clerk::ClerkConfig;
use crate::simulator::court::Script;
use crate::simulator::district::{District, free_address};
use crate::simulator::registry::{MadeUp, RegistryConfig};
use crate::simulator::script::Step;
use crate::witness::Witness;

/// Seed of the people of the batch.
pub(super) const SEED: u32 = 7;

/// Where they live.
pub(super) const REGION: &str = "331004";

/// How many of them are on the register.
pub(super) const ON_REGISTER: u32 = 30;

/// The court's decision, as a file in the folder.
pub(super) const PAPER: &str = "决定书.pdf";

/// How soon a registry that was down is asked again; an operator would be more patient.
const ASK_AGAIN_AFTER: &str = "200ms";

/// Makes the folder and starts the court's witness, gateway, registries, court, procuratorate and neighbour.
pub(super) async fn set(folder: &Path, database: Option<&str>) -> anyhow::Result<(District, Witness)> {
    let clock = Clock::system();
    District::prepare(folder, Script::SupplementThenDefer, &clock)?;
    change(folder, "registry", |registry: &mut RegistryConfig| {
        registry.made_up = Some(MadeUp { seed: SEED, households: ON_REGISTER, region: REGION.to_owned() });
    })?;
    std::fs::write(folder.join(PAPER), pdf("Decision on the fee (simulated): payment is deferred."))?;
    change(folder, "court", |court: &mut ClerkConfig| {
        // Relief is decided on the first papers, the fee only after more were asked for.
        let steps = vec![Step::Receipt, Step::Decide { outcome: None }];
        court.steps.insert(Kind::JudicialRelief, steps);
        court.papers.insert(Kind::FeeWaiver, PAPER.into());
    })?;
    for centre in ["centre", "neighbour"] {
        change(folder, centre, |clerk: &mut ClerkConfig| clerk.script = Script::Defer)?;
    }
    let soon = (format!("{ENVIRONMENT_PREFIX}VERIFICATION__FIRST_RETRY"), ASK_AGAIN_AFTER.to_owned());
    let witness = witness(folder, clock.clone()).await?;
    let database = database.map(|url| (format!("{ENVIRONMENT_PREFIX}STORE__DATABASE"), url.to_owned()));
    let mut district = District::open_with(folder, clock, std::iter::once(soon).chain(database)).await?;
    for clerk in ["procuratorate", "neighbour"] {
        district.employ(clerk).await?;
    }
    Ok((district, witness))
}

/// Starts a witness of the log at the court, and has the gateway ask it.
async fn witness(folder: &Path, clock: Clock) -> anyhow::Result<Witness> {
    let home = folder.join("witness");
    std::fs::create_dir(&home)?;
    let key = CosigningKey::from_seed("court.example/witness", &Zeroizing::new(entropy::bytes::<32>()))?;
    let path = home.join("witness.key");
    key_file::create(&path, &key.encode())?;
    let log = std::fs::read_to_string(folder.join("keys/log.key"))?;
    let log = SigningKey::parse(log.trim())?.verifying_key().to_string();
    let section = WitnessSection {
        listen: free_address()?,
        key: path,
        state: home.join("state"),
        logs: vec![WitnessedLog { key: log, agency: CreditCode::parse(codes::GATEWAY)? }],
    };
    let court = Profile::load(&folder.join("court.toml"))?;
    let witness = Witness::start(&section, &court.credentials()?, clock).await?;
    let (key, agency, address) = (witness.key(), court.agency, witness.address());
    let policy = format!(
        "\n[audit.witnesses]\nquorum = 1\nsubmit_every = \"200ms\"\n\n[[audit.witnesses.witness]]\nkey = \"{key}\"\n\
         agency = \"{agency}\"\naddress = \"{address}\"\nserver_name = \"localhost\"\n"
    );
    OpenOptions::new().append(true).open(folder.join("gateway.toml"))?.write_all(policy.as_bytes())?;
    Ok(witness)
}

/// Changes what `init` wrote for a simulated agency.
fn change<T: DeserializeOwned + Serialize>(
    folder: &Path,
    name: &str,
    change: impl FnOnce(&mut T),
) -> anyhow::Result<()> {
    let path = folder.join(format!("simulate-{name}.toml"));
    let mut config: T = load_table(&path, [])?;
    change(&mut config);
    Ok(std::fs::write(&path, toml::to_string(&config)?)?)
}

/// A PDF of one page with one line of plain letters.
fn pdf(line: &str) -> Vec<u8> {
    let text = format!("BT /F1 14 Tf 72 760 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = String::from("%PDF-1.4\n");
    let mut places = String::new();
    for (number, object) in objects.iter().enumerate() {
        places.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", number + 1));
    }
    let (table, size) = (file.len(), objects.len() + 1);
    file.push_str(&format!("xref\n0 {size}\n0000000000 65535 f \n{places}"));
    file.push_str(&format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"));
    file.into_bytes()
}

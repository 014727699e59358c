//! What the parties hold beside the gateway: a receipt, the right to be erased, and a witness that remembers.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::{DEADLINE, LOOK_EVERY, PATIENCE, Told, Walk, index};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::receipt::Receipt;
use crate::cli::audit::fetch_receipt;
use crate::cli::output::explain;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::{Gateway, StartError, WitnessesError};
use crate::grpc::proto;
use crate::grpc::proto::erase_records_request::Target;
use crate::setup::{NOT_ON_THE_REGISTER, purposes};

impl Walk {
    pub(in crate::cli::demo) async fn receipt_kept(&mut self) -> anyhow::Result<Told> {
        let decision = self.decision_index.context("there is no decision to prove")?;
        let receipt = fetch_receipt(&self.centre, purposes::FEE_WAIVER, decision).await?;
        let file = self.folder.join("decision.receipt");
        std::fs::write(&file, receipt.to_text())?;
        // As somebody checks it who has nothing but the file and the key.
        let kept = Receipt::parse(&std::fs::read_to_string(&file)?)?;
        let checkpoint = kept.verify(&self.key)?;
        let other = Receipt { entry: kept.entry.replacen("RESPONSE", "REQUEST", 1), ..kept };
        ensure!(other.verify(&self.key).is_err(), "a receipt with a changed entry proves something");
        Ok(Told {
            title: ("中心自留法院决定的凭证", "a receipt of the decision, kept"),
            parties: ("援助中心 → 网关", "centre → gateway"),
            result: (
                format!("凭文件和公钥离线证明：第{decision}条在签名的{}条之中", checkpoint.size),
                format!(
                    "proves offline, with the key alone, entry {decision} among {} signed",
                    checkpoint.size
                ),
            ),
            log_index: Some(decision),
        })
    }

    pub(in crate::cli::demo) async fn person_erased(&mut self) -> anyhow::Result<Told> {
        let subject = proto::ErasedSubject {
            id_kind: proto::IdKind::ResidentId.into(),
            id_number: NOT_ON_THE_REGISTER.1.to_owned(),
        };
        let request = proto::EraseRecordsRequest {
            context: Some(self.operator.context(purposes::RECORDS_MANAGEMENT)),
            target: Some(Target::Subject(subject)),
            legal_basis: vec![proto::LegalBasis {
                law: "个人信息保护法".to_owned(),
                article: "47".to_owned(),
            }],
            ground: proto::ErasureGround::ConsentWithdrawn.into(),
            approval: String::new(),
            dry_run: false,
        };
        let asked = self.operator.audit().erase_records(self.operator.request(request, DEADLINE)).await;
        let asked = asked.map_err(|status| explain(&status))?.into_inner();
        let entries = self.removed(&asked.removal_id).await?;
        ensure!(entries > 0, "no entry of the person was found");
        Ok(Told {
            title: ("应本人要求删除", "a person erased on request"),
            parties: ("运维 → 网关", "operator → gateway"),
            result: (
                format!("个人信息保护法第47条：{entries}条的盐已销毁，内容无从得知；日志照常核验（见下）"),
                format!(
                    "PIPL 47: {entries} entries lost their salts and say nothing now; the log verifies, see below"
                ),
            ),
            log_index: index(asked.audit.as_ref()),
        })
    }

    /// Waits for the end of a removal, and gives the number of its entries.
    async fn removed(&self, removal_id: &str) -> anyhow::Result<u64> {
        let started = Instant::now();
        loop {
            let request = proto::GetRemovalRequest {
                context: Some(self.operator.context(purposes::RECORDS_MANAGEMENT)),
                removal_id: removal_id.to_owned(),
            };
            let found = self.operator.audit().get_removal(self.operator.request(request, DEADLINE)).await;
            let found = found.map_err(|status| explain(&status))?.into_inner();
            match found.state() {
                proto::RemovalState::Done => return Ok(found.entries),
                proto::RemovalState::Refused => bail!("refused: {} still run", found.running.join(", ")),
                _ => ensure!(started.elapsed() < PATIENCE, "the erasure does not end"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// With the district stopped: work goes on for a moment, then somebody restores the database of before.
    pub(in crate::cli::demo) async fn old_backup_refused(&mut self) -> anyhow::Result<Told> {
        ensure!(self.district.is_none(), "the database is still written to");
        let mut config = Config::load(&self.folder.join("gateway.toml"), [])?;
        let backup = self.folder.join("backup.db");
        let database = config.store.database.file().context("a file is copied")?;
        std::fs::copy(database, &backup)?;
        let gateway = Gateway::start(config.clone(), Clock::system()).await?;
        let held = Checkpoint::read_unverified(&gateway.checkpoint())?.size;
        let grown = self.cosigned_beyond(held).await;
        gateway.stop().await;
        let log_index = grown?;
        // Whoever restores a backup also loses, or removes, the checkpoint beside the database.
        config.store.database = backup.into();
        config.audit.checkpoint = None;
        let (known, stored) = match Gateway::start(config, Clock::system()).await {
            Err(StartError::Witnesses(WitnessesError::Behind { known, stored, .. })) => (known, stored),
            Err(other) => return Err(other).context("the old backup is refused for another reason"),
            Ok(gateway) => {
                gateway.stop().await;
                bail!("the gateway signs on from an old backup")
            }
        };
        Ok(Told {
            title: ("恢复旧备份", "an old backup restored"),
            parties: ("见证方（法院）✗ 网关", "witness (court) ✗ gateway"),
            result: (
                format!("网关拒绝启动：见证方已会签{known}条，旧备份只有{stored}条"),
                format!(
                    "the gateway does not start: the witness has cosigned {known} entries, the backup has {stored}"
                ),
            ),
            log_index: Some(log_index),
        })
    }

    /// Writes entries until the witness has cosigned more than so many. Gives the index of the last.
    async fn cosigned_beyond(&self, size: u64) -> anyhow::Result<u64> {
        let started = Instant::now();
        loop {
            let context = Some(self.auditor.context(purposes::AUDIT_INSPECTION));
            let request = proto::GetCheckpointRequest { context };
            let answer = self.auditor.audit().get_checkpoint(self.auditor.request(request, DEADLINE)).await;
            let answer = answer.map_err(|status| explain(&status))?.into_inner();
            let cosigned =
                answer.cosigned_checkpoint.lines().nth(1).and_then(|line| line.parse::<u64>().ok());
            if cosigned.is_some_and(|cosigned| cosigned > size) {
                return index(answer.audit.as_ref()).context("the answer names no entry");
            }
            ensure!(started.elapsed() < PATIENCE, "the witness does not cosign");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

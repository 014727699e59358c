//! The audit log, verified from outside, and a copy that somebody changed.

use anyhow::{Context as _, ensure};

use super::{DEADLINE, Told, Walk};
use crate::audit::entry::Entry;
use crate::audit::verifier::Finding;
use crate::cli::audit::{ExportWriter, fetch, prove, verify_path};
use crate::cli::output::explain;
use crate::grpc::proto;
use crate::setup::purposes;

impl Walk {
    pub(in crate::cli::demo) async fn audit_verified_from_outside(&mut self) -> anyhow::Result<Told> {
        let file = self.folder.join("audit-export.jsonl");
        let mut writer = ExportWriter::create(&file)?;
        fetch(&self.auditor, purposes::AUDIT_INSPECTION, &mut writer).await?;
        writer.finish()?;
        let report = verify_path(&file, &self.key, &[]).await?;
        ensure!(report.is_sound(), "{} finding(s): {}", report.findings.len(), report.findings[0]);
        let erased = report.removed.first().context("the log does not say what was erased")?;
        let decision = self.decision_index.context("there is no decision to prove")?;
        let request = proto::GetEntryRequest {
            context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)),
            index: decision,
        };
        let stored = self.auditor.audit().get_entry(self.auditor.request(request, DEADLINE)).await;
        let stored = stored.map_err(|status| explain(&status))?.into_inner().entry.context("no entry")?;
        let size = prove(&self.auditor, purposes::AUDIT_INSPECTION, &stored, &self.key).await?;
        self.audit.size = report.size;
        self.audit.root = report.root.to_base64();
        self.audit.verified = true;
        self.checkpoint = self.district.as_ref().map(|district| district.gateway.checkpoint());
        Ok(Told {
            title: ("从外部核验审计日志", "audit log verified from outside"),
            parties: ("审计机关 → 网关", "auditor → gateway"),
            result: (
                format!(
                    "{}条逐条重新计算，与签名一致，其中{}条注明已删除；法院决定在{size}条的日志中得到证明",
                    report.size,
                    erased.entries.count()
                ),
                format!(
                    "{} entries hashed again, as signed, {} of them said to be erased; the decision is proven",
                    report.size,
                    erased.entries.count()
                ),
            ),
            log_index: Some(decision),
        })
    }

    pub(in crate::cli::demo) async fn tampering_detected(&mut self) -> anyhow::Result<Told> {
        // Stopped, so that the database file is complete in itself.
        self.district.take().context("the district was stopped")?.stop().await;
        let earlier: Vec<String> = self.checkpoint.iter().cloned().collect();
        let original = self.folder.join("gateway.db");
        let sound = verify_path(&original, &self.key, &earlier).await?;
        ensure!(sound.is_sound(), "the untouched database is not sound: {}", sound.findings[0]);
        let changed = self.decision_index.context("there is no decision to change")?;
        let tampered = self.folder.join("tampered.db");
        change_one_byte(&original, &tampered, changed).await?;
        let report = verify_path(&tampered, &self.key, &earlier).await?;
        let found = report.findings.iter().find_map(|finding| match finding {
            Finding::LeafHashDiffers { index, .. } => Some(*index),
            _ => None,
        });
        ensure!(found == Some(changed), "the changed entry {changed} was not found: {:?}", report.findings);
        self.audit.tamper_detected = true;
        Ok(Told {
            title: ("改动副本中的一个字节", "one byte of a copy changed"),
            parties: ("篡改者 → 日志副本", "forger → copy of the log"),
            result: (
                format!("已发现：第{changed}条与签名不符；原件完好"),
                format!("detected: entry {changed} is not what was signed; the original is sound"),
            ),
            log_index: Some(changed),
        })
    }
}

/// Copies a database and changes one byte of one entry in the copy: a digit of its id, found by its text.
async fn change_one_byte(
    original: &std::path::Path,
    copy: &std::path::Path,
    index: u64,
) -> anyhow::Result<()> {
    let store = crate::store::Store::open_audit_log(original).await?;
    let stored = store.entry(index).await?.context("no such entry")?;
    store.close().await;
    let entry = Entry::from_json(&stored.entry)?;
    let mut bytes = std::fs::read(original)?;
    let id = entry.id.to_string().into_bytes();
    let at = bytes
        .windows(id.len())
        .position(|window| window == id)
        .context("the entry's id is not in the file")?;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(copy, bytes)?;
    Ok(())
}

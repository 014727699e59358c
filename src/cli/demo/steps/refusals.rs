//! Who is not let in, and who may not ask.

use anyhow::{Context as _, bail, ensure};
use tonic_types::StatusExt as _;

use super::{DEADLINE, Told, Walk};
use crate::setup::ON_THE_REGISTER;

impl Walk {
    pub(in crate::cli::demo) async fn court_queries_registry(&mut self) -> anyhow::Result<Told> {
        let request = self.question(&self.court, ON_THE_REGISTER)?;
        let call = self.court.request(request, DEADLINE);
        let Err(status) = self.court.verification().verify_low_income(call).await else {
            bail!("the court was answered")
        };
        ensure!(
            status.code() == tonic::Code::PermissionDenied,
            "refused for another reason: {}",
            status.message()
        );
        let details = status.get_error_details();
        let info = details.error_info().context("the refusal has no reason")?;
        let log_index: u64 = info.metadata.get("log_index").context("the refusal names no entry")?.parse()?;
        let entry = self.entry(log_index).await?;
        ensure!(entry.code.as_deref() == Some("PERMISSION_DENIED"), "the entry says otherwise");
        ensure!(
            entry.caller.as_deref() == Some(self.court.profile().agency.as_str()),
            "the entry names another"
        );
        let reason = info.reason.clone();
        Ok(Told {
            title: ("法院查询民政系统", "a court asks the registry"),
            parties: ("人民法院 ✗ 民政系统", "court ✗ registry"),
            result: (format!("拒绝（{reason}），并已记入日志"), format!("denied ({reason}), and in the log")),
            log_index: Some(log_index),
        })
    }

    pub(in crate::cli::demo) async fn no_certificate(&mut self) -> anyhow::Result<Told> {
        let profile = self.centre.profile();
        let dialler =
            crate::identity::dialler::Dialler::new(&profile.credentials()?, crate::clock::Clock::system());
        let said = match dialler.probe_without_certificate(&profile.endpoint()).await {
            Ok(_) => bail!("a client without a certificate was let in"),
            Err(error) => error.to_string(),
        };
        Ok(Told {
            title: ("没有证书的客户端", "a client without a certificate"),
            parties: ("陌生人 ✗ 网关", "stranger ✗ gateway"),
            result: (format!("握手被拒：{said}"), format!("refused at the handshake: {said}")),
            log_index: None,
        })
    }
}

//! A bundle in words, for people who read no JSON: what it is, and what happened. Made from the entries alone, but for
//! the names of agencies.

use std::fmt::Write as _;

use super::Evidence;
use crate::audit::entry::{Entry, Phase};
use crate::domain::calendar::SHANGHAI;

/// A language of the texts.
#[derive(Clone, Copy)]
enum Language {
    English,
    Chinese,
}

impl Language {
    fn of<'t>(self, english: &'t str, chinese: &'t str) -> &'t str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }
}

/// What the bundle is and how it is checked.
pub(super) fn readme(origin: &str) -> String {
    format!(
        "\
交换证据包 / Evidence of one exchange
=====================================

本文件包含一次交换的审计日志条目、每一条目的包含证明，以及经签名的检查点。
日志名称（origin）：{origin}

核验（离线，只需事先另行取得的日志公钥）：
    legal-aid-gateway audit verify 本文件.zip --key 公钥
    如有见证方：再加 --witness 见证方公钥
手工核验：
    jq -r '.files[]|\"\\(.sha256)  \\(.name)\"' manifest.json | sha256sum -c
    条目的叶哈希：(printf '\\000'; cat entries/序号.json) | sha256sum
    proofs/ 中每个文件都是 C2SP tlog-proof，可用他人编写的工具单独核验。
summary.zh-CN.txt 与 summary.en.txt 由条目生成，便于阅读；以 entries/ 中的条目为准。
公钥不得取自本文件，也不得取自提供本文件的人。

This file holds the audit log's entries of one exchange, a proof for each that it is in the log, and the signed
checkpoint that all proofs lead to. The log's origin is {origin}

To check it, offline, with the log's public key that you have from elsewhere:
    legal-aid-gateway audit verify THIS-FILE.zip --key KEY
    with witnesses: --witness KEY as well
By hand:
    jq -r '.files[]|\"\\(.sha256)  \\(.name)\"' manifest.json | sha256sum -c
    the leaf hash of an entry: (printf '\\000'; cat entries/INDEX.json) | sha256sum
    each file in proofs/ is a C2SP tlog-proof, which tools written by others check alone.
summary.zh-CN.txt and summary.en.txt are made from the entries, to be read; what counts is in entries/.
Take the key neither from this file nor from whoever gave it to you.
"
    )
}

/// What happened, in English.
pub(super) fn english(evidence: &Evidence, entries: &[(u64, Entry)]) -> String {
    summary(evidence, entries, Language::English)
}

/// What happened, in Chinese.
pub(super) fn chinese(evidence: &Evidence, entries: &[(u64, Entry)]) -> String {
    summary(evidence, entries, Language::Chinese)
}

fn summary(evidence: &Evidence, entries: &[(u64, Entry)], language: Language) -> String {
    let (exchange, withheld, count) = (evidence.exchange, evidence.withheld, entries.len());
    let asker = named(evidence, &evidence.asked_by, language);
    let made = at(evidence.made_at);
    let mut text = match language {
        Language::English => format!(
            "Exchange {exchange}\n{count} entries, in the order of the log; exported {made} for {asker}\n"
        ),
        Language::Chinese => {
            format!("交换 {exchange}\n共{count}条，按日志顺序；{made} 由{asker}导出\n")
        }
    };
    if withheld > 0 {
        text.push_str(&match language {
            Language::English => {
                format!("{withheld} more entries of it are of others' calls, and not in here\n")
            }
            Language::Chinese => format!("另有{withheld}条属于其他机构的调用，未包含在内\n"),
        });
    }
    text.push_str(language.of(
        "Times are of the gateway's clock, in Beijing time. Names are of the gateway's directory, not of the log.\n",
        "时间为网关时钟的北京时间。机构名称来自网关的机构目录，不是日志内容。\n",
    ));
    for (index, entry) in entries {
        text.push('\n');
        event(&mut text, evidence, *index, entry, language);
    }
    text
}

/// One entry in a few lines.
fn event(text: &mut String, evidence: &Evidence, index: u64, entry: &Entry, language: Language) {
    let comma = language.of(", ", "，");
    let (when, what, how) = (at(entry.recorded), deed(entry, language), stage(entry.phase, language));
    line(text, &format!("[{index}] {when}  {what}{}{how}", language.of(": ", "：")));
    let mut who = Vec::new();
    who.extend(entry.caller.as_ref().map(|code| named(evidence, code, language)));
    who.extend(entry.unit.as_ref().map(|unit| format!("{}{unit}", language.of("unit ", "单位"))));
    who.extend(
        entry.operator.as_ref().map(|number| format!("{}{number}", language.of("operator ", "经办人"))),
    );
    part(text, language.of("by: ", "谁："), &who.join(comma));
    let to = entry.counterpart.as_ref().map(|code| named(evidence, code, language));
    part(text, language.of("with: ", "对方："), &to.unwrap_or_default());
    let mut ground = Vec::new();
    ground.extend(
        entry.purpose.as_ref().map(|purpose| format!("{}{purpose}", language.of("purpose ", "用途"))),
    );
    if !entry.legal_basis.is_empty() {
        let articles = entry.legal_basis.join(language.of("; ", "；"));
        ground.push(format!("{}{articles}", language.of("articles ", "依据")));
    }
    ground.extend(entry.agreement.as_ref().map(|agreement| match language {
        Language::English => format!("agreement {} version {}", agreement.id, agreement.version),
        Language::Chinese => format!("协议{}第{}版", agreement.id, agreement.version),
    }));
    ground.extend(entry.matter.as_ref().map(|matter| format!("{}{matter}", language.of("matter ", "案件"))));
    part(text, language.of("on: ", "依何："), &ground.join(comma));
    let mut outcome = Vec::new();
    outcome.extend(entry.code.as_deref().map(str::to_owned));
    outcome.extend(entry.reason.as_deref().map(str::to_owned));
    outcome.extend(entry.request_index.map(|request| match language {
        Language::English => format!("ends [{request}]"),
        Language::Chinese => format!("终结[{request}]"),
    }));
    part(text, language.of("outcome: ", "结果："), &outcome.join(comma));
}

fn part(text: &mut String, label: &str, content: &str) {
    if !content.is_empty() {
        line(text, &format!("    {label}{content}"));
    }
}

/// A line of its own, whatever stands in it.
fn line(text: &mut String, content: &str) {
    text.extend(content.chars().filter(|character| !character.is_control()));
    text.push('\n');
}

fn named(evidence: &Evidence, code: &str, language: Language) -> String {
    match (evidence.agencies.get(code), language) {
        (Some(name), Language::English) => format!("{name} ({code})"),
        (Some(name), Language::Chinese) => format!("{name}（{code}）"),
        (None, _) => code.to_owned(),
    }
}

fn at(time: jiff::Timestamp) -> String {
    let local = SHANGHAI.to_datetime(time);
    let mut text = String::new();
    let (date, clock) = (local.date(), local.time());
    let (hour, minute, second, milli) = (clock.hour(), clock.minute(), clock.second(), clock.millisecond());
    // Into a String it cannot fail.
    let _ = write!(text, "{date} {hour:02}:{minute:02}:{second:02}.{milli:03}");
    text
}

/// What was called, in words where it is one of the usual calls.
fn deed(entry: &Entry, language: Language) -> String {
    let (english, chinese) = match entry.method.as_ref() {
        "SubmitExchange" => ("opening the exchange", "发起交换"),
        "RespondToExchange" => ("answering in the exchange", "在交换中答复"),
        "GetExchange" => ("reading the exchange", "查看交换"),
        "Deliver" => ("delivering a message", "送达消息"),
        "AcknowledgeDelivery" => ("taking a delivery over", "确认接收送达"),
        "DownloadAttachment" => ("downloading a paper", "下载附件"),
        "ExportEvidence" => ("exporting evidence", "导出证据"),
        "OpenEntry" => ("opening what an entry commits to", "开示条目的承诺内容"),
        "RaiseOverdue" => ("a time limit has passed", "期限届满"),
        "DeemWithdrawn" => ("deemed withdrawn", "视为撤回"),
        _ => return entry.method.clone().into_owned(),
    };
    match language {
        Language::English => format!("{english} ({})", entry.method),
        Language::Chinese => format!("{chinese}（{}）", entry.method),
    }
}

fn stage(phase: Phase, language: Language) -> &'static str {
    let (english, chinese) = match phase {
        Phase::Request => ("accepted, to be carried out", "已受理，随后办理"),
        Phase::Response => ("ended", "办理结束"),
        Phase::Read => ("given", "已提供"),
        Phase::Refused => ("refused, nothing was done", "已拒绝，未办理"),
        Phase::HandshakeRefused => ("connection refused", "拒绝连接"),
        Phase::Interrupted => ("interrupted, its end is not known", "中断，结果不明"),
        Phase::Event => ("by the gateway itself", "网关自动办理"),
    };
    language.of(english, chinese)
}

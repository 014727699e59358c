//! Checking a bundle, offline, with nothing but keys: what it proves, what it does not, and what is wrong with it.

use std::collections::BTreeSet;

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use uuid::Uuid;

use super::container::{self, Files};
use super::{
    CHECKPOINT, Disclosure, Evidence, FORMAT, MANIFEST, Manifest, OpenedField, ProvenEntry, README,
    SUMMARY_EN, SUMMARY_ZH, committed, digest, disclosure_file, entry_file, json, of_exchange, proof_file,
};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::CosignerKey;
use crate::audit::entry::{Entry, Phase, keyed_digest};
use crate::audit::note::{NoteError, VerifyingKey};
use crate::audit::receipt::TlogProof;

/// Something said to a person, in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// In English.
    pub en: String,
    /// In Chinese.
    pub zh: String,
}

/// The witnesses that are trusted, and how many of them must have signed. By default none is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Their keys, each another.
    pub keys: Vec<CosignerKey>,
    /// How many must have signed.
    pub quorum: usize,
}

/// A witness that has signed the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessing {
    /// Its name.
    pub witness: String,
    /// When, by its own clock.
    pub at: Timestamp,
}

/// What a bundle proves and what it does not.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The exchange that it is about.
    pub exchange: Option<Uuid>,
    /// The checkpoint, once its signature has been found right.
    pub checkpoint: Option<Checkpoint>,
    /// Indexes of the entries that are proven.
    pub entries: Vec<u64>,
    /// The trusted witnesses that have signed the checkpoint.
    pub witnesses: Vec<Witnessing>,
    /// How many values are proven to be what was committed to.
    pub opened: u64,
    /// What is proven.
    pub proven: Vec<Sentence>,
    /// What to know when reading it.
    pub remarks: Vec<Sentence>,
    /// What is wrong with it; then nothing in it is to be relied on.
    pub wrong: Vec<Sentence>,
    /// What no such bundle proves.
    pub not_proven: Vec<Sentence>,
}

impl Report {
    /// Whether all holds.
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }
}

fn sentence(en: impl Into<String>, zh: impl Into<String>) -> Sentence {
    Sentence { en: en.into(), zh: zh.into() }
}

/// Checks a bundle against the log's key and the keys of witnesses.
pub fn verify(bundle: &[u8], key: &VerifyingKey, wanted: &Wanted) -> Report {
    let mut report = Report { not_proven: not_proven(), ..Report::default() };
    let files = match container::read(bundle) {
        Ok(files) => files,
        Err(error) => {
            report.wrong.push(sentence(error.to_string(), format!("证据包文件已损坏或被重新打包：{error}")));
            return report;
        }
    };
    let mut check = Check { files: &files, report: &mut report };
    if let Some(manifest) = check.manifest() {
        check.against(&manifest, key, wanted);
    }
    report
}

/// A check under way.
struct Check<'a> {
    files: &'a Files,
    report: &'a mut Report,
}

impl Check<'_> {
    fn wrong(&mut self, en: impl Into<String>, zh: impl Into<String>) {
        self.report.wrong.push(sentence(en, zh));
    }

    /// Says that a file is not there, or not of its form.
    fn unreadable(&mut self, name: &str) {
        self.wrong(format!("{name} is missing or cannot be read"), format!("{name}缺失或无法读取"));
    }

    fn text(&self, name: &str) -> Option<String> {
        self.files.get(name).and_then(|bytes| String::from_utf8(bytes.clone()).ok())
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let manifest = self.files.get(MANIFEST).and_then(|bytes| {
            let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
            // In its only spelling.
            (json(&manifest).ok()? == *bytes).then_some(manifest)
        });
        let Some(manifest) = manifest else {
            self.unreadable(MANIFEST);
            return None;
        };
        if manifest.format != FORMAT {
            self.wrong(
                format!("it is of another format than {FORMAT}; check it with the program that made it"),
                format!("格式不是{FORMAT}；请用生成它的程序核验"),
            );
            return None;
        }
        self.report.exchange = Some(manifest.exchange);
        Some(manifest)
    }

    fn against(&mut self, manifest: &Manifest, key: &VerifyingKey, wanted: &Wanted) {
        self.files_are_as_named(manifest);
        let Some(note) = self.text(CHECKPOINT) else {
            self.unreadable(CHECKPOINT);
            return;
        };
        let checkpoint = match Checkpoint::open(&note, key) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                let by = key.name();
                let zh = match error {
                    NoteError::NotSigned | NoteError::OriginDiffers => {
                        format!("{CHECKPOINT}不是由{by}签名的")
                    }
                    _ => format!("{CHECKPOINT}的签名或内容无效"),
                };
                self.wrong(format!("{CHECKPOINT} is not a checkpoint that {by} signed: {error}"), zh);
                return;
            }
        };
        if manifest.origin != checkpoint.origin || manifest.tree_size != checkpoint.size.to_string() {
            self.wrong(
                format!("{MANIFEST} names another log or size than {CHECKPOINT}"),
                format!("{MANIFEST}中的日志名称或条数与{CHECKPOINT}不符"),
            );
        }
        self.cosignatures(&note, wanted);
        let (proven, read) = self.entries(&note, key);
        self.belong_together(manifest.exchange, &read);
        self.pairs(&read);
        let disclosures = self.disclosures(&read);
        self.report.entries = read.iter().map(|(index, _)| *index).collect();
        self.report.checkpoint = Some(checkpoint);
        if self.report.is_sound() {
            self.texts(manifest, note, proven, disclosures);
        }
        self.conclude();
    }

    /// Every file is in the manifest, as it is, and no other; and it has a place in a bundle.
    fn files_are_as_named(&mut self, manifest: &Manifest) {
        let files = self.files;
        let mut named = BTreeSet::from([MANIFEST]);
        for file in &manifest.files {
            let name = &file.name;
            named.insert(name);
            match files.get(name) {
                None => self.wrong(format!("{name} has been removed"), format!("{name}已被移除")),
                Some(content) if digest(content) != file.sha256 => self.wrong(
                    format!("{name} is not the file that {MANIFEST} names"),
                    format!("{name}不是{MANIFEST}所列的文件"),
                ),
                Some(_) => {}
            }
        }
        let fixed = [README, MANIFEST, CHECKPOINT, SUMMARY_EN, SUMMARY_ZH];
        for name in files.keys() {
            let entry = index_in(name);
            let of_an_entry = entry.is_some_and(|index| {
                files.contains_key(&entry_file(index))
                    && [entry_file(index), proof_file(index), disclosure_file(&index.to_string())]
                        .contains(name)
            });
            if !named.contains(name.as_str()) || !(fixed.contains(&name.as_str()) || of_an_entry) {
                self.wrong(format!("{name} does not belong in this bundle"), format!("{name}不属于本证据包"));
            }
        }
    }

    fn cosignatures(&mut self, note: &str, wanted: &Wanted) {
        for key in &wanted.keys {
            let name = key.name();
            match key.find(note) {
                Ok(found) => {
                    self.report.witnesses.push(Witnessing { witness: name.to_owned(), at: found.time });
                }
                Err(NoteError::NotSigned) => self.report.remarks.push(sentence(
                    format!("the witness {name} has not signed {CHECKPOINT}"),
                    format!("见证方{name}没有签署{CHECKPOINT}"),
                )),
                Err(error) => self.wrong(
                    format!("the cosignature of the witness {name} on {CHECKPOINT}: {error}"),
                    format!("{CHECKPOINT}上见证方{name}的签名无效"),
                ),
            }
        }
        let (signed, quorum) = (self.report.witnesses.len(), wanted.quorum);
        if signed < quorum {
            self.wrong(
                format!("{signed} of the witnesses have signed {CHECKPOINT}, {quorum} are needed"),
                format!("{CHECKPOINT}有{signed}个见证方签名，需要{quorum}个"),
            );
        }
    }

    /// The entries that are proven, and what they say.
    fn entries(&mut self, note: &str, key: &VerifyingKey) -> (Vec<ProvenEntry>, Vec<(u64, Entry)>) {
        let files = self.files;
        let mut indexes: Vec<u64> = files
            .keys()
            .filter(|name| name.starts_with("entries/"))
            .filter_map(|name| index_in(name))
            .collect();
        indexes.sort_unstable();
        let (mut proven, mut read) = (Vec::new(), Vec::new());
        for index in indexes {
            let (file, proof_file) = (entry_file(index), proof_file(index));
            let parsed = self.text(&file).and_then(|text| {
                let entry = Entry::from_json(text.as_bytes()).ok()?;
                Some((text, entry))
            });
            let Some((text, entry)) = parsed else {
                self.unreadable(&file);
                continue;
            };
            let Some(proof) = self.text(&proof_file).and_then(|text| TlogProof::parse(&text).ok()) else {
                self.unreadable(&proof_file);
                continue;
            };
            if proof.index != index || proof.checkpoint != note {
                self.wrong(
                    format!("{proof_file} is of another entry or another checkpoint"),
                    format!("{proof_file}属于其他条目或其他检查点"),
                );
                continue;
            }
            if let Err(error) = proof.verify(text.as_bytes(), key) {
                self.wrong(
                    format!("{file} is not what the log holds at {index}: {error}"),
                    format!("{file}不是日志第{index}条的内容"),
                );
                continue;
            }
            read.push((index, entry));
            proven.push(ProvenEntry { index, entry: text, hashes: proof.hashes });
        }
        if proven.is_empty() {
            self.wrong("it proves no entry at all", "没有任何条目得到证明");
        }
        (proven, read)
    }

    fn belong_together(&mut self, exchange: Uuid, read: &[(u64, Entry)]) {
        for ((index, _), belongs) in read.iter().zip(of_exchange(read, exchange)) {
            if !belongs {
                self.wrong(
                    format!("{} is not of exchange {exchange}", entry_file(*index)),
                    format!("{}不属于交换{exchange}", entry_file(*index)),
                );
            }
        }
    }

    /// What has a beginning and no end, or the other way round, is no fault of the bundle; but it is to be known.
    fn pairs(&mut self, read: &[(u64, Entry)]) {
        let indexes: BTreeSet<u64> = read.iter().map(|(index, _)| *index).collect();
        let ended: BTreeSet<u64> = read.iter().filter_map(|(_, entry)| entry.request_index).collect();
        for (index, entry) in read {
            if entry.phase == Phase::Request && !ended.contains(index) {
                self.report.remarks.push(sentence(
                    format!("entry {index} was accepted; how it ended is not in this bundle"),
                    format!("第{index}条已受理，其结果不在本证据包中"),
                ));
            }
            if let Some(request) = entry.request_index.filter(|request| !indexes.contains(request)) {
                self.report.remarks.push(sentence(
                    format!("entry {index} ends entry {request}, which is not in this bundle"),
                    format!("第{index}条终结第{request}条，后者不在本证据包中"),
                ));
            }
        }
    }

    fn disclosures(&mut self, read: &[(u64, Entry)]) -> Vec<Disclosure> {
        let mut found = Vec::new();
        for (index, entry) in read {
            let name = disclosure_file(&index.to_string());
            let Some(bytes) = self.files.get(&name) else { continue };
            let disclosure = serde_json::from_slice::<Disclosure>(bytes).ok();
            let Some(disclosure) = disclosure.filter(|found| found.index == index.to_string()) else {
                self.unreadable(&name);
                continue;
            };
            for opened in &disclosure.fields {
                self.opened(*index, entry, opened);
            }
            if let Some(removed) = &disclosure.removed {
                let (at, by) = (removed.at, &removed.by);
                self.report.remarks.push(sentence(
                    format!(
                        "entry {index}: what it commits to was erased on {at} by {by}, as the gateway says"
                    ),
                    format!("第{index}条：据网关称，承诺的内容已于{at}由{by}删除"),
                ));
            }
            found.push(disclosure);
        }
        found
    }

    fn opened(&mut self, index: u64, entry: &Entry, opened: &OpenedField) {
        let field = &opened.field;
        let salt = opened.salt.as_ref().map(|salt| HEXLOWER.decode(salt.as_bytes()));
        let value = opened.value.as_ref().map(|value| BASE64.decode(value.as_bytes()));
        match (committed(entry, field), salt, value) {
            (Some(committed), Some(Ok(salt)), Some(Ok(value)))
                if committed.0 == HEXLOWER.encode(&keyed_digest(&salt, &value)) =>
            {
                self.report.opened += 1;
            }
            (Some(_), Some(Ok(_)), None) => self.report.remarks.push(sentence(
                format!(
                    "entry {index}: the salt of {field} is here and its value is not; who has it can check it"
                ),
                format!("第{index}条：含{field}的盐值而不含其内容；持有内容者可自行核对"),
            )),
            (_, None, None) => {
                let why = opened.absent.as_deref().unwrap_or("UNKNOWN");
                self.report.remarks.push(sentence(
                    format!("entry {index}: {field} is not opened: {why}"),
                    format!("第{index}条：{field}未开示：{why}"),
                ));
            }
            _ => self.wrong(
                format!("entry {index}: what is said to be its {field} is not what it commits to"),
                format!("第{index}条：所称的{field}与条目的承诺不符"),
            ),
        }
    }

    /// README and summaries are made again of what is proven.
    fn texts(
        &mut self,
        manifest: &Manifest,
        checkpoint: String,
        entries: Vec<ProvenEntry>,
        disclosures: Vec<Disclosure>,
    ) {
        let evidence = Evidence {
            exchange: manifest.exchange,
            checkpoint,
            made_at: manifest.made_at,
            asked_by: manifest.asked_by.clone(),
            withheld: manifest.withheld.parse().unwrap_or(0),
            agencies: manifest.agencies.clone(),
            entries,
            disclosures,
        };
        let made = evidence.files().unwrap_or_default();
        let files = self.files;
        // The manifest has been compared with the files already.
        let others = files.iter().filter(|(name, _)| *name != MANIFEST);
        for (name, _) in others.filter(|(name, content)| made.get(*name) != Some(*content)) {
            self.wrong(
                format!("{name} does not say what the entries say"),
                format!("{name}与条目内容不一致"),
            );
        }
    }

    fn conclude(&mut self) {
        let report = &mut *self.report;
        let (Some(checkpoint), true) = (&report.checkpoint, report.wrong.is_empty()) else { return };
        let (origin, size, count) = (&checkpoint.origin, checkpoint.size, report.entries.len());
        report.proven.push(sentence(
            format!(
                "these {count} entries are, byte for byte, in the log that {origin} signed at {size} entries"
            ),
            format!("这{count}条记录逐字节存在于{origin}签名的日志中（签名时共{size}条）"),
        ));
        report.proven.push(sentence(
            "their order in the log, and which end belongs to which call",
            "各条记录在日志中的先后顺序，以及每次调用与其结果的对应关系",
        ));
        for Witnessing { witness, at } in &report.witnesses {
            report.proven.push(sentence(
                format!(
                    "they existed by {at}, when the witness {witness} signed the same log, by its own clock"
                ),
                format!("见证方{witness}于{at}（以其时钟为准）签署了同一日志，这些记录当时已经存在"),
            ));
        }
        if report.opened > 0 {
            let opened = report.opened;
            report.proven.push(sentence(
                format!("{opened} disclosed values are what the entries committed to when they were written"),
                format!("{opened}项开示的内容与条目写入时的承诺一致"),
            ));
        }
        report
            .proven
            .push(sentence("README and summaries say what the entries say", "说明与摘要的内容与条目一致"));
        if report.witnesses.is_empty() {
            report.not_proven.push(sentence(
                "that others have seen the same log: no witness was asked for (--witness), so that a gateway could show \
                 another history to somebody else",
                "其他方看到的是同一日志：未要求见证方签名（--witness），网关可能向他人出示另一份历史",
            ));
        }
    }
}

/// The index in a file's name, in its only spelling.
fn index_in(name: &str) -> Option<u64> {
    let (_, file) = name.split_once('/')?;
    let digits = file.split_once('.')?.0;
    let index: u64 = digits.parse().ok()?;
    (index.to_string() == digits).then_some(index)
}

/// What no bundle proves, whatever is in it.
fn not_proven() -> Vec<Sentence> {
    vec![
        sentence(
            "that the log holds no further entries of this exchange: entries may have been left out, or written later",
            "日志中没有本交换的其他条目：导出时可能未包含，或在其后写入",
        ),
        sentence(
            "what messages said that are not disclosed here: the entries hold commitments only",
            "未开示的消息内容：条目中只有承诺值",
        ),
        sentence(
            "that recorded times are right: they are of the gateway's clock; proven are order and a witness's time",
            "记录的时间准确：时间来自网关时钟；得到证明的只有先后顺序和见证方的签署时间",
        ),
        sentence(
            "that the gateway logged what never reached it, or what was agreed outside it",
            "从未到达网关的，或在网关之外约定的事项",
        ),
        sentence(
            "whose name stands behind an operator's number, and that names of agencies belong to their codes",
            "经办人编号对应的姓名，以及机构名称与代码的对应关系",
        ),
        sentence(
            "when and for whom the bundle was made, and how many entries were withheld: the log has the export's own entry",
            "证据包的导出时间、导出机构和未包含的条数：以日志中导出操作自身的条目为准",
        ),
    ]
}

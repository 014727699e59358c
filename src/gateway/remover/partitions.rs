//! Pruning by partitions, where the database has them: one in which hardly anything is kept is detached whole, in one step, with what is
//! kept put in its place.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Pass, Pause, RemovalRecord, Remover};
use crate::audit::removal::IndexRanges;
use crate::store::{Detaching, EntryPartition};

/// Ranges that one entry can name, at 24 characters each in a log of a hundred billion entries. A partition out of which more
/// pieces go is emptied row by row.
pub(super) const RANGES: usize = 500;

/// Entries that stay of a partition that is detached: they are copied while the log waits.
const KEPT: usize = 4096;

/// How often it is tried to detach a partition that somebody reads.
const TRIES: usize = 20;

/// Wait between two tries. The log and those who read it wait in each for up to a tenth of a second.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// The partitions of a pass that lie in what may go, from the first that is not done.
#[derive(Default)]
pub(super) struct Partitions {
    left: VecDeque<EntryPartition>,
    /// Whether the pass is within the first of them.
    is_within: bool,
    /// Entries of it that keep their bytes; `None` where they are too many to detach it.
    kept: Option<Vec<u64>>,
    /// Whether what goes of it waits for its end, to go with it.
    waits: bool,
}

impl Partitions {
    /// Those that end at `end` or before it.
    pub(super) fn below(end: u64, all: Vec<EntryPartition>) -> Self {
        let left = all.into_iter().filter(|partition| partition.end <= end).collect();
        Self { left, ..Self::default() }
    }

    /// Whether entries that go may yet go with their partition.
    pub(super) fn may_detach(&self) -> bool {
        self.waits
    }

    /// From here on entries of this partition go in their rows. (With the last of them it may still be detached.)
    pub(super) fn go_by_rows(&mut self) {
        self.waits = false;
    }
}

impl Remover {
    /// Ends the partitions that lie before `index`, and begins the one that it lies in.
    pub(super) async fn come_to(
        &self,
        removal: &RemovalRecord,
        pass: &mut Pass,
        index: u64,
    ) -> Result<(), Pause> {
        while let Some(partition) = pass.partitions.left.front().filter(|partition| partition.first <= index)
        {
            let partition = partition.clone();
            if !pass.partitions.is_within {
                // What comes before it is not a part of it.
                self.take_step(removal, pass, true).await?;
                (pass.partitions.is_within, pass.partitions.waits) = (true, true);
                pass.partitions.kept = Some(Vec::new());
            }
            if index < partition.end {
                break;
            }
            self.end_partition(removal, pass, partition).await?;
            pass.partitions.left.pop_front();
            pass.partitions.is_within = false;
        }
        Ok(())
    }

    /// Notes an entry that keeps its bytes.
    pub(super) async fn keep(
        &self,
        removal: &RemovalRecord,
        pass: &mut Pass,
        index: u64,
    ) -> Result<(), Pause> {
        if let Some(kept) = &mut pass.partitions.kept {
            kept.push(index);
            if kept.len() > KEPT {
                pass.partitions.kept = None;
                self.take_step(removal, pass, true).await?;
            }
        }
        Ok(())
    }

    /// Detaches a partition that was looked through, if it can be; otherwise the rest of it goes row by row.
    async fn end_partition(
        &self,
        removal: &RemovalRecord,
        pass: &mut Pass,
        partition: EntryPartition,
    ) -> Result<(), Pause> {
        let takes_bytes = !pass.step_entries.is_empty();
        if let Some(kept) = pass.partitions.kept.take()
            && pass.step_entries.ranges().len() <= RANGES
            && self.store.is_detachable(&partition, takes_bytes).await?
        {
            let EntryPartition { first, end, .. } = partition;
            let detaching = Detaching { partition, kept };
            for _ in 0..TRIES {
                let entries = pass.step_entries.clone();
                match self.append_step(removal, entries, Vec::new(), Some(detaching.clone())).await {
                    Ok(()) => {}
                    // Gone all the same: by a try whose answer was lost, or by another gateway.
                    Err(Pause::Rejected)
                        if !self.store.entry_partitions().await?.contains(&detaching.partition) => {}
                    Err(Pause::Rejected) => {
                        tokio::time::sleep(BETWEEN_TRIES).await;
                        continue;
                    }
                    Err(pause) => return Err(pause),
                }
                pass.step_entries = IndexRanges::default();
                tracing::info!(first, end, "a partition of the log was detached");
                return Ok(());
            }
            tracing::warn!(
                first,
                end,
                "a partition of the log cannot be detached, since somebody reads the log for long; its entries are emptied in \
                 their rows, and the next pruning detaches it"
            );
        }
        self.take_step(removal, pass, true).await
    }
}

//! `ListEntries`: the log looked through by an auditor's filter.

mod filter;

use std::ops::Range;

use super::{context, entry_on_wire};
use crate::access::Method;
use crate::audit::search::{Field, Query};
use crate::domain::person::IdDocument;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::page::{PageToken, page_size};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::shanghai_day;
use crate::store::{PageOf, SearchError};

/// Bytes of entries in one page.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

pub(super) struct ListEntries;

pub(super) struct List {
    query: Query,
    /// The person, if that is what is searched for: document kind and number.
    person: Option<IdDocument>,
    /// What page tokens are bound to.
    asked: Vec<u8>,
    newest_first: bool,
    page_size: u32,
    token: String,
}

impl Operation for ListEntries {
    const METHOD: Method = Method::ListEntries;
    type Request = proto::ListEntriesRequest;
    type Response = proto::ListEntriesResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        context(reading, request.context.as_ref());
        let filter = request.filter.unwrap_or_default();
        let today = shanghai_day(reading.now);
        let (query, person) = reading.violations.within("filter", |v| filter::read(v, &filter, today));
        let page_size = page_size(&mut reading.violations, request.page_size, 100, 500)?;
        // The log says by what was searched, and for whom as a pseudonym.
        reading.facts.search = Some(filter::summary(&query, person.is_some(), request.newest_first));
        reading.facts.subject.clone_from(&person);
        reading.facts.pseudonym = filter::pseudonym(&filter);
        let asked = prost::Message::encode_to_vec(&filter);
        let newest_first = request.newest_first;
        Some(List { query, person, asked, newest_first, page_size, token: request.page_token })
    }
}

impl Lookup for ListEntries {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        list: List,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let List { mut query, person, asked, newest_first, page_size, token } = list;
        let order = if newest_first { "newest first" } else { "oldest first" };
        let tokens = PageToken::new(
            &intake.pseudonyms,
            format!("entries\0{}\0{order}\0{}", call.caller(), data_encoding::HEXLOWER.encode(&asked)),
        );
        if let Some(id) = person {
            let pseudonyms = intake.every_pseudonym(&id).await?;
            query.narrow_to_any(Field::Subject, pseudonyms);
        }
        // Only what is under a signed checkpoint is shown.
        let mut within = 0..intake.log.head().size;
        if let Some(position) = tokens.open(&token)? {
            let position = u64::from_be_bytes(position.try_into().map_err(|_| Refusal::Internal)?);
            if newest_first {
                within.end = within.end.min(position);
            } else {
                within.start = position;
            }
        }
        let of = PageOf { within, newest_first, entries: page_size as usize, bytes: PAGE_BYTES };
        let page = intake.index.page(&query, of).await.map_err(|error| refusal(&error))?;
        let position = |rest: Range<u64>| if newest_first { rest.end } else { rest.start };
        Ok(proto::ListEntriesResponse {
            entries: page.entries.into_iter().map(entry_on_wire).collect(),
            next_page_token: page
                .rest
                .map(|rest| tokens.seal(&position(rest).to_be_bytes()))
                .unwrap_or_default(),
            audit: None,
        })
    }
}

/// What a search that found nothing out becomes.
pub(super) fn refusal(error: &SearchError) -> Refusal {
    match error {
        SearchError::Behind { indexed, entries } => {
            Refusal::SearchBehind { indexed: *indexed, entries: *entries }
        }
        SearchError::Store(error) => store_refusal(error),
        SearchError::Unsound(_) | SearchError::Remove(_) => {
            tracing::error!(%error, "search");
            Refusal::Internal
        }
    }
}

//! Where a call stands in a trace (W3C Trace Context), and what a collector is told of it.
//!
//! What a span says are words of this program and numbers, by their types: no text that came from outside can be in it.

use std::fmt::Write as _;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use thiserror::Error;

use crate::entropy;

#[cfg(feature = "otlp")]
use super::otlp::Collector;

/// A place in a trace: the trace, a span in it, and the span that it is part of.
#[derive(Clone, Debug)]
pub struct Trace {
    id: String,
    span: [u8; 8],
    parent: Option<[u8; 8]>,
    is_sampled: bool,
}

impl Trace {
    /// A span of its own in the trace of somebody who calls: the trace's id, 32 hex digits in lower case, the span that
    /// calls, and whether it is recorded there.
    pub fn within(id: String, parent: Option<[u8; 8]>, is_sampled: bool) -> Self {
        Self { id, span: entropy::bytes(), parent, is_sampled }
    }

    /// The trace's id: 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The span's own id.
    pub fn span(&self) -> [u8; 8] {
        self.span
    }

    /// The span that this one is part of.
    pub fn parent(&self) -> Option<[u8; 8]> {
        self.parent
    }

    /// A span that is part of this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            id: self.id.clone(),
            span: entropy::bytes(),
            parent: Some(self.span),
            is_sampled: self.is_sampled,
        }
    }

    /// The header `traceparent`, for whom is called on behalf of this span.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        let flags = u8::from(self.is_sampled);
        let _ = write!(text, "00-{}-{}-{flags:02x}", self.id, HEXLOWER.encode(&self.span));
        text
    }
}

/// Whether a span answers a call or makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A call that came in.
    Server,
    /// A call that goes out.
    Client,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span<'t> {
    /// Where it stands.
    pub trace: &'t Trace,
    /// The method.
    pub name: &'static str,
    /// The service.
    pub service: &'static str,
    /// Which side of the call it is.
    pub kind: SpanKind,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The gRPC code that it ended with.
    pub code: i32,
    /// What else is to be said.
    pub words: &'t [(&'static str, &'static str)],
}

/// Tells a collector of spans, or nobody. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    collector: Option<std::sync::Arc<Collector>>,
}

/// Why no traces can be sent.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The feature is not compiled in.
    #[error(
        "this build sends no traces: take [traces] out, or build with `cargo build --release --features otlp`"
    )]
    NotBuiltIn,
    /// The collector's address.
    #[error("traces.endpoint {endpoint:?} cannot be used: {problem}; it is like http://127.0.0.1:4317")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
}

impl Traces {
    /// Sends to the collector at `endpoint` (OTLP over gRPC), as the node of this name.
    ///
    /// # Errors
    /// When the endpoint is no address, or this build has no way to send.
    #[cfg(feature = "otlp")]
    pub fn to(endpoint: &str, node: &str) -> Result<Self, TracesError> {
        Ok(Self { collector: Some(std::sync::Arc::new(Collector::at(endpoint, node)?)) })
    }

    /// Sends to the collector at `endpoint` (OTLP over gRPC), as the node of this name.
    ///
    /// # Errors
    /// When the endpoint is no address, or this build has no way to send.
    #[cfg(not(feature = "otlp"))]
    pub fn to(_endpoint: &str, _node: &str) -> Result<Self, TracesError> {
        Err(TracesError::NotBuiltIn)
    }

    /// A trace that begins here. It is recorded if anything is.
    pub fn begin(&self) -> Trace {
        Trace::within(HEXLOWER.encode(&entropy::bytes::<16>()), None, self.is_on())
    }

    /// Tells of a span. It is never waited for; what the collector does not take in time is dropped.
    #[cfg_attr(not(feature = "otlp"), allow(clippy::unused_self, reason = "nobody is told"))]
    pub fn tell(&self, span: &Span<'_>) {
        #[cfg(feature = "otlp")]
        if let Some(collector) = self.collector.as_ref().filter(|_| span.trace.is_sampled) {
            collector.take(span);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = span;
    }

    /// Sends what is left.
    #[cfg_attr(
        not(feature = "otlp"),
        allow(clippy::unused_async, clippy::unused_self, reason = "nothing is left")
    )]
    pub async fn stop(&self) {
        #[cfg(feature = "otlp")]
        if let Some(collector) = &self.collector {
            collector.stop().await;
        }
    }

    #[cfg(feature = "otlp")]
    fn is_on(&self) -> bool {
        self.collector.is_some()
    }

    #[cfg(not(feature = "otlp"))]
    #[allow(clippy::unused_self, reason = "as in the other build")]
    fn is_on(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_is_called_learns_the_trace_and_the_span_that_calls() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let trace = Trace::within(id.to_owned(), Some([7; 8]), true);
        let said = trace.traceparent();
        let [version, trace_id, span, flags] = said.split('-').collect::<Vec<_>>()[..] else {
            panic!("{said}")
        };
        assert_eq!((version, trace_id, flags), ("00", id, "01"));
        assert_ne!(span, HEXLOWER.encode(&[7; 8]), "it is a span of its own");
        let child = trace.child();
        assert_eq!((child.id(), child.parent), (id, Some(trace.span)));
        assert_ne!(child.span, trace.span);
    }

    #[test]
    fn without_a_collector_a_trace_that_begins_here_is_not_recorded() {
        assert!(Traces::default().begin().traceparent().ends_with("-00"));
    }
}

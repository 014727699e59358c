//! The way between the couriers and the inboxes. It keeps what is handed over until the run says what comes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use legal_aid_gateway::access::Agency;
use legal_aid_gateway::delivery::inboxes::{Inboxes, NotTaken};
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::telemetry::Trace;
use tokio::sync::{Notify, oneshot};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::flaw::Flaw;
use super::op::{Fate, Told};
use super::parties::{Books, Entered, Party};

type Answer = Result<proto::DeliverResponse, NotTaken>;

/// The network. Clones are the same network; it outlives the gateway's process.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Mutex<Inner>>,
    /// Rung when something was handed over.
    pub(crate) bell: Arc<Notify>,
}

struct Inner {
    books: Books,
    /// Handed over, not answered yet.
    kept: Vec<Kept>,
    /// Copies that may still arrive.
    delayed: Vec<(Party, proto::Delivery)>,
    /// From now on all arrives at once.
    is_healed: bool,
    broken: Option<String>,
    flaw: Flaw,
}

struct Kept {
    to: Party,
    delivery: proto::Delivery,
    answer: oneshot::Sender<Answer>,
}

impl Kept {
    fn is(&self, delivery: &str, attempt: u32) -> bool {
        (self.delivery.delivery_id.as_str(), self.delivery.attempt) == (delivery, attempt)
    }
}

impl Network {
    pub(crate) fn new(flaw: Flaw) -> Self {
        let inner = Inner {
            books: Books::with(flaw),
            kept: Vec::new(),
            delayed: Vec::new(),
            is_healed: false,
            broken: None,
            flaw,
        };
        Self { inner: Arc::new(Mutex::new(inner)), bell: Arc::default() }
    }

    /// The books of all agencies.
    pub(crate) fn books<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        look(&mut self.inner.lock().unwrap().books)
    }

    /// Deliveries that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.inner.lock().unwrap().kept.len()
    }

    /// Whether this attempt at this delivery is kept.
    pub(crate) fn keeps(&self, delivery: &str, attempt: u32) -> bool {
        self.inner.lock().unwrap().kept.iter().any(|kept| kept.is(delivery, attempt))
    }

    /// Lets a delivery that is kept have its fate.
    pub(crate) fn resolve(&self, delivery: &str, attempt: u32, fate: Fate) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap();
        let place = inner.kept.iter().position(|kept| kept.is(delivery, attempt)).ok_or("nothing is kept")?;
        let Kept { to, delivery, answer } = inner.kept.remove(place);
        let said = inner.befall(to, &delivery, fate)?;
        // Whoever waited for it may have ended with its process.
        let _ = answer.send(said);
        Ok(())
    }

    /// What was kept when the process ended that had handed it over: lost, taken, or delayed, by two bits each.
    pub(crate) fn orphaned(&self, mut bits: u8) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap();
        for Kept { to, delivery, .. } in std::mem::take(&mut inner.kept) {
            let fates = [
                Fate::RequestLost(Told::TimedOut),
                Fate::ReplyLost(Told::TimedOut),
                Fate::Delayed(Told::TimedOut),
                Fate::ReplyLost(Told::TimedOut),
            ];
            let _ = inner.befall(to, &delivery, fates[usize::from(bits & 3)])?;
            bits = bits.rotate_right(2);
        }
        Ok(())
    }

    /// One of the delayed copies arrives; nobody waits for its answer any more.
    pub(crate) fn land(&self, which: usize) -> Result<Option<Party>, String> {
        let mut inner = self.inner.lock().unwrap();
        if inner.delayed.is_empty() {
            return Ok(None);
        }
        let which = which % inner.delayed.len();
        let (to, delivery) = inner.delayed.remove(which);
        inner.books.enter(to, &delivery)?;
        Ok(Some(to))
    }

    /// From now on everything arrives, and at once; what was delayed, too.
    pub(crate) fn heal(&self) -> Result<(), String> {
        while self.land(0)?.is_some() {}
        self.inner.lock().unwrap().is_healed = true;
        Ok(())
    }

    /// What a recipient found wrong while nobody was looking.
    pub(crate) fn broken(&self) -> Option<String> {
        self.inner.lock().unwrap().broken.take()
    }
}

impl Inner {
    /// What a fate does at the recipient, and what the courier hears.
    fn befall(&mut self, to: Party, delivery: &proto::Delivery, fate: Fate) -> Result<Answer, String> {
        let not_taken = |told| match told {
            Told::Unavailable => NotTaken::Refused(Status::unavailable("the connection broke")),
            Told::TimedOut => NotTaken::TimedOut,
        };
        let busy = |wait| {
            let details = ErrorDetails::with_retry_info(Some(wait));
            NotTaken::Refused(Status::with_error_details(Code::ResourceExhausted, "busy", details))
        };
        Ok(match fate {
            Fate::Arrives => self.take(to, delivery)?,
            Fate::ArrivesTwice => {
                let _ = self.take(to, delivery)?;
                self.take(to, delivery)?
            }
            Fate::RequestLost(_) if self.flaw == Flaw::LossIsCalledSuccess => Ok(proto::DeliverResponse {
                message_sha256: delivery.message_sha256.clone(),
                already_delivered: false,
            }),
            Fate::RequestLost(told) => Err(not_taken(told)),
            Fate::ReplyLost(told) => {
                let _ = self.take(to, delivery)?;
                Err(not_taken(told))
            }
            Fate::Delayed(told) => {
                self.delayed.push((to, delivery.clone()));
                Err(not_taken(told))
            }
            Fate::WrongDigest => {
                self.books.enter(to, delivery)?;
                Ok(proto::DeliverResponse { message_sha256: vec![7; 32], already_delivered: false })
            }
            Fate::Refused => Err(NotTaken::Refused(Status::internal("not now"))),
            Fate::Busy { seconds } => Err(busy(Duration::from_secs(seconds.into()))),
            Fate::NoWay => Err(NotTaken::NoWay),
        })
    }

    fn take(&mut self, to: Party, delivery: &proto::Delivery) -> Result<Answer, String> {
        let already_delivered = self.books.enter(to, delivery)? == Entered::Already;
        if already_delivered && to == Party::SecondCourt {
            return Ok(Err(NotTaken::Refused(Status::already_exists("it is here"))));
        }
        Ok(Ok(proto::DeliverResponse { message_sha256: delivery.message_sha256.clone(), already_delivered }))
    }
}

impl Inboxes for Network {
    async fn hand_over(&self, agency: &Agency, delivery: proto::Delivery, _: Duration, _: &Trace) -> Answer {
        let to = Party::of(&agency.code);
        let (answer, answered) = oneshot::channel();
        {
            let mut inner = self.inner.lock().unwrap();
            if inner.is_healed {
                return inner.take(to, &delivery).unwrap_or_else(|broken| {
                    inner.broken.get_or_insert(broken);
                    Err(NotTaken::NoWay)
                });
            }
            inner.kept.push(Kept { to, delivery, answer });
        }
        self.bell.notify_one();
        match answered.await {
            Ok(answer) => answer,
            // Its process has ended; so has this.
            Err(_) => std::future::pending().await,
        }
    }
}

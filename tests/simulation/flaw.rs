//! Flaws that are put into the simulated world on purpose, to show that its checker can find something.

/// What is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    #[default]
    Nothing,
    /// Agencies do not remember which deliveries they have taken over.
    RecipientForgets,
    /// The way to the inboxes says that a message was taken which was lost.
    LossIsCalledSuccess,
    /// The disk says that a batch is written which is not.
    DiskLies,
}

//! Why no agreement allows a call.

use thiserror::Error;

/// Why no agreement allows a call. Says which condition failed, never what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denial {
    /// None names this caller and method.
    #[error("no agreement allows this agency to call this method")]
    NoAgreement,
    /// Those that do are not in force today.
    #[error("the agreement is not in force today")]
    NotInForce,
    /// Those in force do not list the purpose.
    #[error("the agreement does not allow this purpose")]
    Purpose,
    /// Those in force for the purpose do not list the counterpart.
    #[error("the agreement does not allow this counterpart")]
    Counterpart,
}

impl Denial {
    /// The reason in UPPER_SNAKE.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoAgreement => "NO_AGREEMENT",
            Self::NotInForce => "AGREEMENT_NOT_IN_FORCE",
            Self::Purpose => "PURPOSE_NOT_AGREED",
            Self::Counterpart => "COUNTERPART_NOT_AGREED",
        }
    }

    /// The same in Chinese, for the person at the desk.
    pub fn description_zh(self) -> &'static str {
        match self {
            Self::NoAgreement => "没有协议允许本机构调用此方法",
            Self::NotInForce => "协议今日不在有效期内",
            Self::Purpose => "协议不允许此用途",
            Self::Counterpart => "协议不允许此对方机构",
        }
    }
}

/// The denial that came nearest to being allowed says most.
pub(super) fn later(one: Denial, other: Denial) -> Denial {
    let rank = |denial| match denial {
        Denial::NoAgreement => 0,
        Denial::NotInForce => 1,
        Denial::Purpose => 2,
        Denial::Counterpart => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

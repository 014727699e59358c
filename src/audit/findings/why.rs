//! Why a rule matters, in one sentence, for whoever judges a finding.

use super::Rule;

impl Rule {
    /// In English.
    pub fn why(self) -> &'static str {
        match self {
            Self::BulkLookUps => {
                "So many look-ups in so short a time are more than one person handles, and may be a copy of a register in the making."
            }
            Self::OutOfHours => {
                "Nobody is at the counter outside office hours: look-ups then may be for somebody's own purposes, or with borrowed credentials."
            }
            Self::NoMatter => {
                "A look-up must serve a matter; attempts without one may be tries at looking people up for no case at all."
            }
            Self::MatterClosed => {
                "The matter's exchanges had ended, so that there was hardly a reason left to look the household up for it."
            }
            Self::SubjectAskedByMany => {
                "A household applies at one centre as a rule; many units asking about one person may mean curiosity or pressure."
            }
            Self::DenialBurst => {
                "Many denials in a short time mean a system set up wrongly, or somebody who tries what the agreements allow."
            }
            Self::Interrupted => {
                "It is not known how these requests ended: the other side may have acted on them, so it should be asked."
            }
            Self::ClockBackwards => {
                "The node's clock was set back: times around this entry cannot be relied on, and time limits may be wrong."
            }
            Self::Silence => {
                "The log was silent in office hours of a day with traffic: the gateway may have been down or cut off, or its work done past it."
            }
        }
    }

    /// In Chinese.
    pub fn why_zh(self) -> &'static str {
        match self {
            Self::BulkLookUps => "短时间内查询量超出个人正常办理能力，可能是在批量复制登记数据。",
            Self::OutOfHours => "非办公时间窗口无人值守，此时查询可能出于私人目的或冒用他人账号。",
            Self::NoMatter => "查询应当服务于具体事项，未关联事项的请求可能是无案查人。",
            Self::MatterClosed => "该事项的往来已经办结，此后再查询该家庭一般已无必要。",
            Self::SubjectAskedByMany => "一户通常只向一个中心申请，多个单位查询同一人可能出于好奇或施压。",
            Self::DenialBurst => "短时间内多次被拒绝，可能是系统配置错误，也可能是有人在试探权限。",
            Self::Interrupted => "这些请求的结果不明，对方可能已经处理，应当向对方核实。",
            Self::ClockBackwards => "节点时钟曾被回拨，该记录前后的时间不可靠，期限计算可能有误。",
            Self::Silence => "业务日的办公时间内日志长时间无记录，网关可能停运、断网，或业务被绕过。",
        }
    }
}

//! Pure decisions: no IO, no clock, no async, no global. Time comes in as an argument; adapters act.

pub mod confined;
pub mod container;
pub mod decision;
pub mod event;
pub mod flow;
pub mod health;
pub mod hold;
pub mod intervals;
pub mod inventory;
pub mod judge;
pub mod limits;
pub mod lists;
pub mod name;
pub mod net;
pub mod owner;
pub mod packet;
pub mod policy;
pub mod ranges;
pub mod record;
pub mod registry;
pub mod settings;
pub mod time;
pub mod verdict;
pub mod wish;

pub use flow::{Flow, Proto};
pub use judge::{Engine, Mode, Scope, Settings};
pub use name::Name;
pub use net::{Family, Net};
pub use record::{Kind, Record};
pub use time::{Mono, Now, Wall};
pub use verdict::{Grade, Reason, Verdict};

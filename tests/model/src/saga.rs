//! What the services do, in which order, and everything that can go wrong in between.
//!
//! A process that acts on what it has read is part of the state, because the world may move on before it
//! does. One that has read nothing yet, or has nothing left to write, is not: if it is lost, its message
//! waits as before. So a consumer has two steps at most between receiving a message and acknowledging it,
//! and is lost at each of them: before its transaction ([`Step::Lose`]), and after it, before it publishes what the message has
//! caused or before it acknowledges the message ([`Ending`]). Publishing and clearing what is in the outbox, or what an order stands
//! for, are steps of their own, because producer and relay do the same, at any time, and a lost producer leaves them to the relay.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use events::{EventType, RejectedStock, StockLine};
use exactly_once::{Commit, CommitTogether};
use order::rules::{self as order_rules, Decision, Order, Payments, SagaReply, Settlement, Status};
use product::rules::{
    self as product_rules, Allocation, Release, ReleaseOutcome, ReservationStatus, StockChange,
};
use stateright::{Model, Property};

use crate::{
    properties,
    tables::{
        EventId, LoggedEvent, Message, Report, Row, STATUSES, Scenario, Short, Tables, Write,
        commit, commit_together, is_queued, judge, judge_together, reports,
    },
};

/// The whole of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What is stored and queued.
    pub tables: Tables,
    /// Who acts on what has been read.
    pub processes: Vec<Process>,
}

/// A process that has read something and not yet written what follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Process {
    /// product-consumer, with orders that it decides together, and the products of which it has seen too little. As
    /// long as it has seen nothing it is never kept.
    Reserve(Vec<usize>, SeenShort),
    /// product-consumer, with a cancelled order and the reservation that it has read.
    Release(usize, Option<ReservationStatus>),
    /// order-consumer, with a decision about stock and the status that it has read.
    Settle(EventId, Status),
    /// order-api, with a request, the status that it has read, and whether the order stood for its event then.
    Transition(usize, Request, Status, bool),
}

/// How a consumer ends with a message that it has handled, or that was handled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is lost before it publishes what the message has caused.
    Lost,
    /// It publishes that, and acknowledges the message. If it is lost in between, the message comes back ([`Step::Repeat`]).
    Acknowledged,
    /// SNS does not take that: it is put in the outbox, and the message is acknowledged.
    Enqueued,
}

/// Products of which a consumer has seen too little, with the pieces that it has seen.
pub type SeenShort = Vec<(usize, Option<u64>)>;

/// What can be requested of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    Cancel,
    Ship,
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// order-api stores an order.
    Place(usize),
    /// order-api reads an order that somebody wants to cancel or ship.
    Request(usize, Request),
    /// A producer or the relay publishes a pending event, or one that its order stands for, perhaps not for the first time.
    Publish(EventId),
    /// A producer or the relay marks an event as published: it leaves the outbox, or its order does not stand for it any more.
    Clear(EventId),
    /// A message comes back after it was acknowledged: delivered twice by SQS, redriven, or published by a
    /// producer that was slower than the relay.
    Repeat(EventId),
    /// A consumer receives a message. It is in the queue until it is acknowledged, so another may as well.
    Receive {
        event: EventId,
        /// How DynamoDB reports the transaction, if it comes to one.
        report: Report,
        /// How the consumer ends, if that was all.
        ending: Ending,
    },
    /// product-consumer receives two orders in one batch, and decides them together.
    ReceiveTogether {
        orders: Vec<usize>,
        /// How DynamoDB reports the transaction.
        report: Report,
        /// How the consumer ends, if that was all.
        ending: Ending,
    },
    /// A process writes what follows from what it has read.
    Proceed {
        process: Process,
        /// How DynamoDB reports the transaction.
        report: Report,
        /// How a consumer ends.
        ending: Ending,
    },
    /// A process is lost.
    Lose(Process),
}

/// How often transactions came to what, to see that the model has met all of it.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Seen {
    pub done: AtomicU64,
    pub duplicate: AtomicU64,
    pub guard_failed: AtomicU64,
    pub condition_failed: AtomicU64,
    pub retry: AtomicU64,
}

/// The saga of a shop's orders.
#[derive(Debug)]
pub struct Saga {
    pub scenario: Scenario,
    /// What transactions came to.
    pub seen: Seen,
}

impl Process {
    /// The messages that it is about.
    fn events(&self) -> Vec<EventId> {
        match self {
            Self::Reserve(orders, _) => {
                orders.iter().map(|order| (*order, EventType::OrderCreated)).collect()
            }
            Self::Release(order, _) => vec![(*order, EventType::OrderCancelled)],
            Self::Settle(event, _) => vec![*event],
            Self::Transition(..) => Vec::new(),
        }
    }

    fn order(&self) -> usize {
        self.rank().0
    }

    /// The same of another order. Not for processes of several orders.
    fn of(&self, order: usize) -> Self {
        match self.clone() {
            Self::Reserve(_, seen) => Self::Reserve(vec![order], seen),
            Self::Release(_, read) => Self::Release(order, read),
            Self::Settle((_, kind), read) => Self::Settle((order, kind), read),
            Self::Transition(_, request, read, unpublished) => {
                Self::Transition(order, request, read, unpublished)
            }
        }
    }

    /// By which processes are kept in one order: who came first makes no difference.
    fn rank(&self) -> (usize, u8, u8) {
        match self {
            Self::Reserve(orders, seen) => {
                let few = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
                (orders[0], few(orders.len()), few(seen.len()))
            }
            Self::Release(order, read) => (*order, 3, read.map_or(0, |read| 1 + read as u8)),
            Self::Settle((order, kind), read) => (*order, 4 + *kind as u8, *read as u8),
            Self::Transition(order, request, read, unpublished) => {
                (*order, 100 + *request as u8, 2 * *read as u8 + u8::from(*unpublished))
            }
        }
    }
}

impl State {
    fn event(&self, (order, kind): EventId) -> Option<&LoggedEvent> {
        self.tables.orders[order].event(kind)
    }

    fn event_mut(&mut self, (order, kind): EventId) -> Option<&mut LoggedEvent> {
        self.tables.orders[order].event_mut(kind)
    }

    fn keep(&mut self, process: Process) {
        self.processes.push(process);
        self.processes.sort_by_key(Process::rank);
    }

    fn end(&mut self, process: &Process) {
        if let Some(place) = self.processes.iter().position(|running| running == process) {
            self.processes.remove(place);
        }
    }

    /// A consumer ends with a message that was handled, now or before.
    fn end_message(&mut self, (order, kind): EventId, ending: Ending) {
        let caused = self.event((order, kind)).and_then(|event| event.caused);
        let caused = caused.filter(|caused| is_queued(*caused));
        if let Some(caused) = caused.and_then(|caused| self.event_mut((order, caused))) {
            // What is in the outbox is left to the relay.
            match ending {
                Ending::Acknowledged if !caused.pending => caused.message = Message::Waiting,
                Ending::Enqueued => caused.pending = true,
                Ending::Acknowledged | Ending::Lost => {}
            }
        }
        if matches!(ending, Ending::Acknowledged | Ending::Enqueued)
            && let Some(event) = self.event_mut((order, kind))
        {
            event.message = Message::Acknowledged;
        }
    }

    /// Whether the order stands for the publication of this event.
    fn stands_for(&self, (order, kind): EventId) -> bool {
        kind == EventType::OrderCreated && self.tables.orders[order].unpublished
    }

    /// Whether nothing is under way: what happens now, a customer has to request, or it is a repetition.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let mut event = self.tables.orders.iter().flat_map(|row| &row.events);
        self.processes.is_empty()
            && event.all(|event| !event.pending && event.message != Message::Waiting)
            && self.tables.orders.iter().all(|row| !row.unpublished)
    }
}

/// The same state for all states that differ only in which of the orders is which. For shops whose orders all
/// want the same.
#[must_use]
pub fn alike(state: &State) -> State {
    let fate = |order: usize| {
        let mut hasher = DefaultHasher::new();
        state.tables.orders[order].hash(&mut hasher);
        let of_order = state.processes.iter().filter(|process| process.order() == order);
        of_order.map(|process| process.of(0)).for_each(|process| process.hash(&mut hasher));
        hasher.finish()
    };
    let mut places: Vec<usize> = (0..state.tables.orders.len()).collect();
    places.sort_by_cached_key(|order| fate(*order));
    let orders = places.iter().map(|order| state.tables.orders[*order].clone()).collect();
    let tables = Tables { stock: state.tables.stock.clone(), orders };
    let mut alike = State { tables, processes: Vec::new() };
    for process in &state.processes {
        if let Some(place) = places.iter().position(|order| *order == process.order()) {
            alike.keep(process.of(place));
        }
    }
    alike
}

impl Saga {
    /// The saga of this shop.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, seen: Seen::default() }
    }

    /// Starts a process, or returns `None` if there are as many as there may be.
    fn start(&self, state: &mut State, process: Process) -> Option<()> {
        (state.processes.len() < self.scenario.processes_max).then(|| state.keep(process))
    }

    /// What a consumer that receives a message has before it: the process that has read what it needs.
    fn receiver(&self, state: &State, event: EventId) -> Option<Process> {
        let row = &state.tables.orders[event.0];
        Some(match event.1 {
            EventType::OrderCreated => Process::Reserve(vec![event.0], SeenShort::new()),
            EventType::OrderCancelled => Process::Release(event.0, row.reservation),
            // There is no event of an order that there is not.
            _ => Process::Settle(event, row.status?),
        })
    }

    /// The transaction that a process decides on, or `None` if there is nothing to write.
    fn decide(&self, state: &State, process: &Process) -> Option<Vec<Write>> {
        if let Process::Reserve(orders, seen) = process {
            let (members, shared) = self.decide_stock(orders, seen);
            return Some(members.into_iter().flatten().chain(shared).collect());
        }
        let mut writes = Vec::new();
        let mut mark = |caused| {
            writes
                .extend(process.events().into_iter().map(|event| Write::PutMarker(event, caused)));
        };
        match process {
            Process::Reserve(..) => {}
            Process::Release(order, read) => {
                let read = read.map(|standing| self.scenario.reservation(*order, standing));
                match product_rules::release(read) {
                    Release::Nothing => return None,
                    Release::Tombstone => {
                        mark(None);
                        writes.push(Write::Reserve(*order, ReservationStatus::Cancelled));
                    }
                    Release::GiveBack(lines) => {
                        mark(Some(EventType::StockReleased));
                        writes.push(Write::Release(*order));
                        writes.extend(lines.iter().map(|line| {
                            let product = self.scenario.product(&line.product_id);
                            Write::Stock(product, StockChange::Release(line.quantity))
                        }));
                        writes.push(Write::Store(*order, EventType::StockReleased, Short::new()));
                    }
                }
            }
            Process::Settle((order, kind), read) => {
                let rejected = RejectedStock {
                    order_id: self.scenario.order(*order, *read).order_id.clone(),
                    items: self.scenario.orders[*order].lines.clone(),
                    short: self.scenario.short(*order, &state.event((*order, *kind))?.short),
                };
                let reply = match kind {
                    EventType::StockReserved => SagaReply::StockReserved,
                    _ => SagaReply::StockRejected(&rejected),
                };
                let read = self.scenario.order(*order, *read);
                match order_rules::settle(read, reply, Payments::None) {
                    Settlement::Apply(transition) => {
                        let caused = transition.body.event_type();
                        mark(Some(caused));
                        writes.push(Write::Transition(*order, transition.from, transition.to));
                        writes.push(Write::Store(*order, caused, Short::new()));
                    }
                    // Nothing is written in either case; that there is no contradiction, properties say.
                    Settlement::AlreadySettled | Settlement::Contradiction => return None,
                }
            }
            Process::Transition(order, request, read, unpublished) => {
                let decide = match request {
                    Request::Cancel => order_rules::cancel,
                    Request::Ship => order_rules::ship,
                };
                match decide(self.scenario.order(*order, *read)) {
                    Decision::Apply(transition) => {
                        let kind = transition.body.event_type();
                        writes.push(Write::Transition(*order, transition.from, transition.to));
                        writes.push(Write::Append(*order, kind, Short::new()));
                        if *unpublished {
                            writes.push(Write::Enqueue(*order, EventType::OrderCreated));
                        }
                    }
                    Decision::AlreadyApplied | Decision::Refused(_) => return None,
                }
            }
        }
        Some(writes)
    }

    /// The transactions of orders that are decided together, and the writes that they share.
    fn decide_stock(&self, orders: &[usize], seen: &SeenShort) -> (Vec<Vec<Write>>, Vec<Write>) {
        let lines: Vec<&[StockLine]> =
            orders.iter().map(|order| &*self.scenario.orders[*order].lines).collect();
        let seen = seen.iter().map(|(product, stock)| (self.scenario.product_id(*product), *stock));
        let allocations = product_rules::allocate(&lines, &seen.collect());
        let members = orders.iter().zip(&allocations).map(|(order, allocation)| {
            let (status, kind, short) = match allocation {
                Allocation::Reserve => {
                    (ReservationStatus::Reserved, EventType::StockReserved, Short::new())
                }
                Allocation::Reject(short) => {
                    let short = self.scenario.short_places(*order, short);
                    (ReservationStatus::Rejected, EventType::StockRejected, short)
                }
            };
            vec![
                Write::PutMarker((*order, EventType::OrderCreated), Some(kind)),
                Write::Reserve(*order, status),
                Write::Store(*order, kind, short),
            ]
        });
        let reserved = lines.iter().zip(&allocations);
        let reserved = reserved.filter(|(_, allocation)| **allocation == Allocation::Reserve);
        let taken = product_rules::total_by_product(reserved.flat_map(|(lines, _)| *lines));
        let shared = taken.into_iter().map(|(product, pieces)| {
            Write::Stock(self.scenario.product(product), StockChange::Reserve(pieces))
        });
        (members.collect(), shared.collect())
    }

    /// The state after product-consumer has tried to decide orders together, or `None` if it is where it was.
    fn proceed_stock(
        &self,
        mut state: State,
        (orders, mut seen): (Vec<usize>, SeenShort),
        report: Report,
        ending: Ending,
    ) -> Option<State> {
        let (members, shared) = self.decide_stock(&orders, &seen);
        let commit = commit_together(&self.scenario, &mut state.tables, &members, &shared, report);
        self.seen.count_together(commit.as_ref());
        let mut handled = Vec::new();
        match commit? {
            CommitTogether::Done => handled = orders,
            CommitTogether::MembersFailed(failed) => {
                let mut open = orders;
                for (member, _) in failed.into_iter().rev() {
                    handled.push(open.remove(member));
                }
                // What it has seen so far it knows no more: that is what the next delivery does, too.
                if !open.is_empty() && !seen.is_empty() {
                    self.start(&mut state, Process::Reserve(open, seen))?;
                }
            }
            CommitTogether::ConditionFailed(failed) => {
                let first = members.iter().map(Vec::len).sum::<usize>();
                for (place, item) in failed {
                    let Write::Stock(product, _) = &shared[place - first] else { continue };
                    seen.retain(|(known, _)| known != product);
                    seen.push((*product, item.as_ref().map(product_rules::stock_of)));
                }
                seen.sort_unstable();
                self.start(&mut state, Process::Reserve(orders, seen))?;
            }
        }
        for order in handled {
            state.end_message((order, EventType::OrderCreated), ending);
        }
        Some(state)
    }

    /// The state after a process, which is no more among those of the state, has gone on, or `None` if it is where it
    /// was.
    fn proceed(
        &self,
        mut state: State,
        process: Process,
        report: Report,
        ending: Ending,
    ) -> Option<State> {
        let process = match process {
            Process::Reserve(orders, seen) => {
                return self.proceed_stock(state, (orders, seen), report, ending);
            }
            process => process,
        };
        let event = process.events().first().copied();
        let Some(writes) = self.decide(&state, &process) else {
            event.into_iter().for_each(|event| state.end_message(event, ending));
            return Some(state);
        };
        let commit = commit(&self.scenario, &mut state.tables, &writes, report);
        self.seen.count(commit.as_ref());
        let commit = commit?;
        let handled = match process {
            Process::Reserve(..) => None,
            Process::Release(..) => match product_rules::interpret_release(&commit) {
                ReleaseOutcome::Settled(handled) => Some(handled),
                // Read again is what the next delivery does, sooner or later.
                ReleaseOutcome::DecideAgain | ReleaseOutcome::UnknownProduct => None,
            },
            // If the order has to be read again, the next delivery does that, sooner or later.
            Process::Settle(..) => order_rules::interpret_settlement(&commit),
            Process::Transition(order, request, ..) => {
                if let Commit::GuardFailed(_, Some(item)) = commit {
                    let order_now: Order = serde_dynamo::from_item(item).expect("an order");
                    let unpublished = state.tables.orders[order].unpublished;
                    let process =
                        Process::Transition(order, request, order_now.status, unpublished);
                    if self.decide(&state, &process).is_some() {
                        self.start(&mut state, process)?;
                    }
                }
                None
            }
        };
        if handled.is_some() {
            event.into_iter().for_each(|event| state.end_message(event, ending));
        }
        Some(state)
    }

    /// Every transaction that the model has for an order, as its writes in words.
    #[must_use]
    pub fn transactions(&self) -> BTreeSet<BTreeSet<String>> {
        const ORDER: usize = 0;
        let mut state = self.init_states().remove(ORDER);
        let stock_events = [EventType::StockReserved, EventType::StockRejected];
        for kind in stock_events {
            Write::Store(ORDER, kind, Short::new()).apply(&mut state.tables);
        }
        let reserved = [None, Some(ReservationStatus::Reserved)];
        let short =
            self.scenario.orders[ORDER].pieces.iter().map(|(product, _)| (*product, Some(0)));
        let mut processes = vec![
            Process::Reserve(vec![ORDER], SeenShort::new()),
            Process::Reserve(vec![ORDER], short.collect()),
        ];
        processes.extend(reserved.map(|read| Process::Release(ORDER, read)));
        for status in STATUSES {
            processes.extend(stock_events.map(|kind| Process::Settle((ORDER, kind), status)));
            for request in [Request::Cancel, Request::Ship] {
                processes.push(Process::Transition(ORDER, request, status, false));
            }
        }
        processes.push(Process::Transition(ORDER, Request::Cancel, Status::Pending, true));
        let in_words = |writes: &[Write]| writes.iter().map(Write::to_string).collect();
        let decided = processes.iter().filter_map(|process| self.decide(&state, process));
        let decided = decided.map(|writes| in_words(&writes));
        decided.chain([in_words(&placing(ORDER))]).collect()
    }

    /// Where everything ends if from here on nothing goes wrong and nobody requests anything, or `None` if something
    /// is stuck.
    #[must_use]
    pub fn end(&self, state: &State) -> Option<State> {
        // More than any state has left to do.
        const STEPS_MAX: usize = 100;
        let mut state = state.clone();
        for _ in 0..STEPS_MAX {
            let Some(step) = self.due(&state) else { return Some(state) };
            state = self.next_state(&state, step)?;
        }
        None
    }

    fn due(&self, state: &State) -> Option<Step> {
        let (report, ending) = (Report::FULL, Ending::Acknowledged);
        if let Some(process) = state.processes.first() {
            return Some(Step::Proceed { process: process.clone(), report, ending });
        }
        events(state).find_map(|(id, event)| match event {
            LoggedEvent { message: Message::Unpublished, .. } if state.stands_for(id) => {
                Some(Step::Publish(id))
            }
            LoggedEvent { pending: true, message: Message::Unpublished, .. } => {
                Some(Step::Publish(id))
            }
            LoggedEvent { pending: true, .. } => Some(Step::Clear(id)),
            LoggedEvent { message: Message::Waiting, .. } => {
                Some(Step::Receive { event: id, report, ending })
            }
            _ => None,
        })
    }

    fn ways(&self, state: &State, process: &Process) -> Vec<(Report, Ending)> {
        let (scenario, tables) = (&self.scenario, &state.tables);
        let reports = match process {
            Process::Reserve(orders, seen) => {
                let (members, shared) = self.decide_stock(orders, seen);
                let writes: Vec<Write> = members.iter().flatten().chain(&shared).cloned().collect();
                reports(scenario, tables, &writes, |report| {
                    judge_together(scenario, tables, &members, &shared, report)
                })
            }
            process => match self.decide(state, process) {
                Some(writes) => reports(scenario, tables, &writes, |report| {
                    judge(scenario, tables, &writes, report)
                }),
                None => vec![Report::FULL],
            },
        };
        // What the others cause is in no queue of the model: whether it is published makes no difference.
        let endings = match process {
            Process::Reserve(..) if self.scenario.clears_apart => {
                &[Ending::Lost, Ending::Acknowledged, Ending::Enqueued][..]
            }
            _ => &[Ending::Lost, Ending::Acknowledged],
        };
        let ways = |report| endings.iter().map(move |ending| (report, *ending));
        reports.into_iter().flat_map(ways).collect()
    }
}

/// The writes that store a new order, with the event that reports it.
fn placing(order: usize) -> [Write; 2] {
    [Write::Create(order), Write::Store(order, EventType::OrderCreated, Short::new())]
}

fn events(state: &State) -> impl Iterator<Item = (EventId, &LoggedEvent)> {
    let rows = state.tables.orders.iter().enumerate();
    rows.flat_map(|(order, row)| row.events.iter().map(move |event| ((order, event.kind), event)))
}

impl Seen {
    fn count_together(&self, commit: Option<&CommitTogether<usize>>) {
        match commit {
            None => self.count(None),
            Some(CommitTogether::Done) => self.count(Some(&Commit::Done)),
            Some(CommitTogether::ConditionFailed(_)) => {
                self.count(Some(&Commit::ConditionFailed(Vec::new())));
            }
            Some(CommitTogether::MembersFailed(failed)) => {
                failed.iter().for_each(|(_, commit)| self.count(Some(commit)));
            }
        }
    }

    fn count(&self, commit: Option<&Commit<usize>>) {
        let counter = match commit {
            Some(Commit::Done) => &self.done,
            Some(Commit::Duplicate) => &self.duplicate,
            Some(Commit::GuardFailed(..)) => &self.guard_failed,
            Some(Commit::ConditionFailed(_)) => &self.condition_failed,
            None => &self.retry,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Model for Saga {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let stock = self.scenario.stock.iter().map(|stock| i64::try_from(*stock).expect("little"));
        let orders = self.scenario.orders.iter().map(|_| Row::default());
        let tables = Tables { stock: stock.collect(), orders: orders.collect() };
        vec![State { tables, processes: Vec::new() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (order, row) in state.tables.orders.iter().enumerate() {
            match row.status {
                None => steps.push(Step::Place(order)),
                Some(_) => {
                    steps.extend([Request::Cancel, Request::Ship].map(|w| Step::Request(order, w)));
                }
            }
        }
        for (id, event) in events(state) {
            if event.pending || state.stands_for(id) {
                steps.push(Step::Publish(id));
                if event.message != Message::Unpublished {
                    steps.push(Step::Clear(id));
                }
            }
            match event.message {
                Message::Unpublished => {}
                Message::Acknowledged => steps.push(Step::Repeat(id)),
                Message::Waiting => {
                    let Some(process) = self.receiver(state, id) else { continue };
                    let ways = self.ways(state, &process);
                    steps.extend(ways.into_iter().map(|(report, ending)| Step::Receive {
                        event: id,
                        report,
                        ending,
                    }));
                }
            }
        }
        if self.scenario.has_batches {
            let created = EventType::OrderCreated;
            let is_waiting = |order: &usize| {
                state.event((*order, created)).is_some_and(|one| one.message == Message::Waiting)
            };
            let waiting: Vec<usize> = (0..state.tables.orders.len()).filter(is_waiting).collect();
            for orders in
                waiting.windows(2).flat_map(|pair| [vec![pair[0], pair[1]], vec![pair[1], pair[0]]])
            {
                let process = Process::Reserve(orders.clone(), SeenShort::new());
                let ways = self.ways(state, &process);
                steps.extend(ways.into_iter().map(|(report, ending)| Step::ReceiveTogether {
                    orders: orders.clone(),
                    report,
                    ending,
                }));
            }
        }
        for process in &state.processes {
            steps.push(Step::Lose(process.clone()));
            let ways = self.ways(state, process);
            steps.extend(ways.into_iter().map(|(report, ending)| Step::Proceed {
                process: process.clone(),
                report,
                ending,
            }));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Place(order) => {
                commit(&self.scenario, &mut state.tables, &placing(order), Report::FULL)?;
            }
            Step::Request(order, request) => {
                let row = &state.tables.orders[order];
                let process = Process::Transition(order, request, row.status?, row.unpublished);
                self.decide(&state, &process)?;
                self.start(&mut state, process)?;
            }
            Step::Publish(event) => {
                if state.stands_for(event) {
                    state.tables.orders[event.0].unpublished = self.scenario.clears_apart;
                }
                let event = state.event_mut(event)?;
                event.message = Message::Waiting;
                event.pending &= self.scenario.clears_apart;
            }
            Step::Clear(event) if state.stands_for(event) => {
                state.tables.orders[event.0].unpublished = false;
            }
            Step::Clear(event) => state.event_mut(event)?.pending = false,
            Step::Repeat(event) => state.event_mut(event)?.message = Message::Waiting,
            Step::Receive { event, report, ending } => {
                let process = self.receiver(&state, event)?;
                let reads = !matches!(process, Process::Reserve(..));
                if reads && self.decide(&state, &process).is_some() {
                    self.start(&mut state, process)?;
                } else {
                    state = self.proceed(state, process, report, ending)?;
                }
            }
            Step::ReceiveTogether { orders, report, ending } => {
                let nothing = SeenShort::new();
                state = self.proceed_stock(state, (orders, nothing), report, ending)?;
            }
            Step::Proceed { process, report, ending } => {
                state.end(&process);
                state = self.proceed(state, process, report, ending)?;
            }
            Step::Lose(process) => state.end(&process),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

//! How the scheduler's orders travel: alone at once, many together.

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hyper::Method;
use kube_lite::http::{Access, Handler, Reply, Request, Route};
use kube_lite::model::ApiError;
use kube_lite::model::wire::{
    Fence, OrderAccepted, OrderBody, OrderOutcome, OrdersRequest, RunRequest,
};
use kube_lite_testkit::{SHORT, until};
use serde_json::json;
use support::scheduler::{Scheduler, serve};

/// What an agent was told, request by request.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Vec<String>>>>);

impl Told {
    fn note(&self, ids: Vec<String>) {
        self.0.lock().unwrap().push(ids);
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.requests().into_iter().flatten().collect()
    }

    async fn until(&self, count: usize) {
        until("the orders to arrive", SHORT, || async {
            let ids = self.ids().len();
            if ids == count { Ok(()) } else { Err(ids) }
        })
        .await;
    }
}

fn accepted(fence: &Fence, order: &str) -> OrderAccepted {
    OrderAccepted { incarnation: fence.incarnation, seq: 1, id: order.into() }
}

fn run_of(body: &[u8]) -> (Fence, String) {
    let run: RunRequest = serde_json::from_slice(body).unwrap();
    (run.fence, run.order.id.to_string())
}

/// An agent of this release, which refuses the first of every batch.
struct Agent(Told);

#[derive(Clone, Copy, Debug)]
enum Ask {
    Run,
    Orders,
}

impl Handler for Agent {
    type Call = Ask;
    const ROUTES: &'static [Route<Ask>] = &[
        Route::new(Method::POST, "/run", Ask::Run, Access::Scheduler, "Run").body(1 << 20),
        Route::new(Method::POST, "/orders", Ask::Orders, Access::Scheduler, "All").body(8 << 20),
    ];

    async fn handle(&self, request: Request<Ask>) -> Result<Reply, ApiError> {
        if let Ask::Run = request.call {
            let (fence, id) = run_of(&request.body);
            let reply = Reply::json(202, &accepted(&fence, &id));
            self.0.note(vec![id]);
            return Ok(reply);
        }
        let OrdersRequest { fence, orders } = serde_json::from_slice(&request.body).unwrap();
        let ids: Vec<String> = orders.iter().map(|order| order.id().to_string()).collect();
        assert!(orders.iter().all(|order| matches!(order, OrderBody::Run(_))));
        let answer = |(n, id): (usize, &String)| match n {
            0 => OrderOutcome::Refused {
                status: 400,
                error: ApiError::bad_request("the first never suits"),
            },
            _ => OrderOutcome::Accepted(accepted(&fence, id)),
        };
        let answers: Vec<OrderOutcome> = ids.iter().enumerate().map(answer).collect();
        self.0.note(ids);
        Ok(Reply::json(200, &answers))
    }
}

/// An agent that knows nothing of batches.
struct Older(Told);

impl Handler for Older {
    type Call = ();
    const ROUTES: &'static [Route<()>] =
        &[Route::new(Method::POST, "/run", (), Access::Scheduler, "Run").body(1 << 20)];

    async fn handle(&self, request: Request<()>) -> Result<Reply, ApiError> {
        let (fence, id) = run_of(&request.body);
        self.0.note(vec![id.clone()]);
        Ok(Reply::json(202, &accepted(&fence, &id)))
    }
}

async fn deploy(scheduler: &Scheduler, name: &str, replicas: u32) {
    let spec = json!({"name": name, "image": "nginx", "replicas": replicas});
    let answer = scheduler.send("POST", "/deploy", &spec).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn one_order_goes_alone_and_a_hundred_in_two_requests_each_with_an_answer_of_its_own() {
    let told = Told::default();
    let agent = serve(Agent(told.clone())).await;
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", agent.port()).await;
    deploy(&scheduler, "one", 1).await;
    told.until(1).await;
    assert_eq!(told.requests().len(), 1);

    deploy(&scheduler, "many", 100).await;
    // Two were refused, and are replaced by instances of their own.
    told.until(103).await;
    let first: Vec<usize> = told.requests()[1..3].iter().map(Vec::len).collect();
    assert_eq!(first.iter().sum::<usize>(), 100, "{first:?}");
    let refused: BTreeSet<String> =
        told.requests().iter().filter(|ids| ids.len() > 1).map(|ids| ids[0].clone()).collect();
    until("the refusals to be told", SHORT, || async {
        let events = scheduler.get("/events?workload=many").await.body;
        let is_told = |id: &String| events.contains(&format!("refused to run {id}: the first"));
        let count = events.matches("\"OrderRefused\"").count();
        if refused.iter().all(is_told) && count >= refused.len() { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test]
async fn an_agent_of_an_earlier_release_gets_its_orders_one_by_one() {
    let told = Told::default();
    let agent = serve(Older(told.clone())).await;
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", agent.port()).await;
    deploy(&scheduler, "many", 100).await;
    told.until(100).await;
    assert!(told.requests().iter().all(|ids| ids.len() == 1));
    let events = scheduler.get("/events?workload=many").await.body;
    assert!(!events.contains("OrderRefused"), "{events}");
}

package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	libfault "github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/test/fake/openai"
)

// observer sees everything that a platform does, from outside of it: triggers in the database write what commits, the topics are
// read as they are, and the fakes have what they received.
type observer struct {
	world     *world
	pool      *pgxpool.Pool
	offsets   map[string]map[int]int64 // what has been read of each partition
	published []message
	foreign   map[string]bool // ids of events that a fault published
	allowed   map[string]bool // files without a call that a fault may leave
	lost      int             // bills without a transcript before this fault
}

// message is a record of a topic.
type message struct {
	Topic     string
	Partition int
	Offset    int64
	ID, Type  string
	Key       string
	Version   int64
	Headers   map[string]string
}

// committed is an event in an outbox whose transaction committed.
type committed struct {
	Service, ID, Topic, Type, Key string
	Version                       int64
}

// effect is a row that a handler tried to write, in a transaction that committed.
type effect struct {
	Table   string // service.table
	ID      string // of the aggregate, or event/endpoint of a delivery
	Version int64
	Tx      int64
}

// handled is an event that an inbox has recorded.
type handled struct {
	Service, ID string
	Tx          int64
}

// status is a change of a call's status.
type status struct{ Call, Was, Became string }

// The triggers log into the schema fault. A BEFORE INSERT trigger also fires for a row that conflicts and is not inserted, so it
// counts how often a handler ran, however idempotent its statement is.
const triggers = `
create schema fault;
create table fault.committed (seq bigserial, service text, event_id text, topic text, type text, key text, version bigint);
create table fault.effects (seq bigserial, target text, id text, version bigint, tx bigint);
create table fault.handled (seq bigserial, service text, event_id text, tx bigint);
create index on fault.handled (event_id);
create table fault.statuses (seq bigserial, call_id text, was text, became text);
create function fault.on_outbox() returns trigger language plpgsql security definer as $$ begin
	if new.data is null then return null; end if; -- a tombstone, which nobody handles
	insert into fault.committed (service, event_id, topic, type, key, version)
	values (tg_table_schema, new.event_id::text, new.topic, new.type, new.key, coalesce((convert_from(new.data, 'UTF8')::jsonb->>'version')::bigint, 0));
	return null; end $$;
create function fault.on_inbox() returns trigger language plpgsql security definer as $$ begin
	insert into fault.handled (service, event_id, tx) values (tg_table_schema, new.event_id::text, txid_current());
	return null; end $$;
create function fault.on_copy() returns trigger language plpgsql security definer as $$ begin
	if new.version > 0 then
		insert into fault.effects (target, id, version, tx) values (tg_table_schema || '.' || tg_table_name, new.id::text, new.version, txid_current());
	end if;
	return new; end $$;
create function fault.on_delivery() returns trigger language plpgsql security definer as $$ begin
	insert into fault.effects (target, id, version, tx) values ('notify.deliveries', new.event_id || '/' || new.endpoint_id, 0, txid_current()); -- the table is a partition
	return new; end $$;
create function fault.on_call() returns trigger language plpgsql security definer as $$ begin
	if tg_op = 'INSERT' then
		insert into fault.statuses (call_id, was, became) values (new.id::text, '', new.status);
	elsif old.status <> new.status then
		insert into fault.statuses (call_id, was, became) values (new.id::text, old.status, new.status);
	end if;
	return null; end $$;
create trigger fault after insert or update on calls.calls for each row execute function fault.on_call();
create trigger fault before insert on notify.deliveries for each row execute function fault.on_delivery();
`

// copies are the tables with copies of another service's data, and the prefixes of the types of the events they are built from.
var copies = map[string][]string{
	"calls.clients": {"client."}, "calls.leads": {"lead."}, "crm.calls": {"call.", "transcription."}, "crm.agents": {"agent."},
	"notify.agents": {"agent."}, "notify.clients": {"client."}, "notify.leads": {"lead."},
}

// subscriptions are the types of events that the services read.
var subscriptions = map[string][]string{
	"auth":   {"erasure.requested"},
	"calls":  append([]string{"client.created", "client.updated", "client.deleted", "erasure.requested", "webhook.delivered"}, leadTypes...),
	"crm":    {"call.uploaded", "call.transcribing", "transcription.completed", "transcription.failed", "call.updated", "call.deleted", "agent.registered", "agent.updated", "agent.deactivated", "webhook.delivered", "webhook.dead", "erasure.requested", "erasure.done", "erasure.waiting"},
	"notify": append([]string{"transcription.completed", "transcription.failed", "followup.scheduled", "followup.due", "followup.completed", "agent.registered", "agent.updated", "agent.deactivated", "client.created", "client.updated", "client.deleted", "erasure.requested"}, leadTypes...),
}

// leadTypes are the types of events about leads.
var leadTypes = []string{
	"lead.imported", "lead.updated", "lead.deleted", "lead.no_answer", "lead.not_interested", "lead.callback_requested", "lead.interested",
	"lead.payment_pending", "lead.future_planning", "lead.converted", "lead.wrong_number", "lead.undecided",
}

// observe begins to observe a platform that has served no request yet.
func observe(t testing.TB, w *world) *observer {
	t.Helper()
	statements := triggers
	for _, service := range backends {
		statements += "create trigger fault after insert on " + service + ".outbox for each row execute function fault.on_outbox();\n"
	}
	for service := range subscriptions {
		statements += "create trigger fault after insert on " + service + ".inbox for each row execute function fault.on_inbox();\n"
	}
	for table := range copies {
		statements += "create trigger fault before insert on " + table + " for each row execute function fault.on_copy();\n"
	}
	w.postgres.exec(t, statements)
	return &observer{world: w, pool: w.postgres.pool(t), offsets: map[string]map[int]int64{}, foreign: map[string]bool{}, allowed: map[string]bool{}}
}

// rows returns the rows of a query. It retries while the database restarts.
func rows[T any](o *observer, sql string, args ...any) []T {
	o.world.t.Helper()
	var found []T
	var last error
	if !within(startTimeout, func() bool {
		result, err := o.pool.Query(o.world.t.Context(), sql, args...)
		if last = err; err != nil {
			return false
		}
		found, last = pgx.CollectRows(result, pgx.RowToStructByPos[T])
		return last == nil
	}) {
		o.world.t.Fatalf("%s: %v", sql, last)
	}
	return found
}

// count returns the number that a query returns.
func (o *observer) count(sql string, args ...any) int {
	o.world.t.Helper()
	return rows[struct{ N int }](o, sql, args...)[0].N
}

// The order in which the tables are written is that of the commits of one aggregate.
func (o *observer) committed() []committed {
	return rows[committed](o, `select service, event_id, topic, type, key, version from fault.committed order by seq`)
}

func (o *observer) handled() []handled {
	return rows[handled](o, `select service, event_id, tx from fault.handled order by seq`)
}

// fetch reads what has been published since the last fetch. A topic that was created anew is read from its beginning.
func (o *observer) fetch(ctx context.Context) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(o.world.kafka.addresses()...), Transport: transport, Timeout: 10 * time.Second}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return fmt.Errorf("list the topics: %w", err)
	}
	for _, topic := range meta.Topics {
		if topic.Internal || strings.HasPrefix(topic.Name, "__") {
			continue
		}
		if topic.Error != nil {
			return fmt.Errorf("list the partitions of %s: %w", topic.Name, topic.Error)
		}
		for _, p := range topic.Partitions {
			if err := o.fetchPartition(ctx, client, topic.Name, p.ID); err != nil {
				return fmt.Errorf("read %s/%d: %w", topic.Name, p.ID, err)
			}
		}
	}
	return nil
}

func (o *observer) fetchPartition(ctx context.Context, client *kafka.Client, topic string, partition int) error {
	listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}}})
	if err != nil {
		return err
	}
	if err := listed.Topics[topic][0].Error; err != nil {
		return err
	}
	end := listed.Topics[topic][0].LastOffset
	if o.offsets[topic] == nil {
		o.offsets[topic] = map[int]int64{}
	}
	next := o.offsets[topic][partition]
	if end < next {
		next = 0
	}
	if next == end {
		return nil
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: o.world.kafka.addresses(), Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond,
	})
	defer func() { _ = reader.Close() }()
	if err := reader.SetOffset(next); err != nil {
		return err
	}
	for next < end {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		next = m.Offset + 1
		if m.Value != nil {
			o.published = append(o.published, describe(m))
		}
		o.offsets[topic][partition] = next
	}
	return nil
}

func describe(m kafka.Message) message {
	d := message{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Key: string(m.Key), Headers: map[string]string{}}
	for _, h := range m.Headers {
		d.Headers[h.Key] = string(h.Value)
	}
	var payload struct{ Version int64 }
	_ = json.Unmarshal(m.Value, &payload)
	d.ID, d.Type, d.Version = d.Headers["ce_id"], d.Headers["ce_type"], payload.Version
	return d
}

// settled reports what still has to happen, or nothing. It looks in the order in which one thing causes the next, so that nothing
// begins behind its back while no client writes: calls in work, events that a consumer has not handled, webhooks that are due, and
// the events that all of them have left in an outbox.
func (o *observer) settled(ctx context.Context) (open []string) {
	if n := o.count(`select count(*)::int from calls.calls where status in ('pending', 'transcribing')`); n > 0 {
		open = append(open, fmt.Sprintf("%d calls that have not ended", n))
	}
	if n := o.unhandled(math.MaxInt32); n > 0 {
		open = append(open, fmt.Sprintf("%d events that a consumer has not handled", n))
	}
	if n := o.count(`select count(*)::int from notify.deliveries where status = 'pending' or status = 'retrying' and (next_attempt_at is null or next_attempt_at < now() + interval '6 seconds')`); n > 0 {
		open = append(open, fmt.Sprintf("%d deliveries that are due", n))
	}
	if n := o.count(`select count(*)::int from crm.analytics_deltas`); n > 0 {
		open = append(open, fmt.Sprintf("%d changes of counts that are not added", n))
	}
	for _, service := range backends {
		if n := o.count("select count(*)::int from " + service + ".outbox"); n > 0 {
			open = append(open, fmt.Sprintf("%d events in the outbox of %s", n, service))
		}
	}
	if err := o.fetch(ctx); err != nil {
		open = append(open, err.Error())
	}
	return open
}

// unhandled counts, once per consumer, the events up to the one with that number that are not handled.
func (o *observer) unhandled(last int) (n int) {
	for service, types := range subscriptions {
		n += o.count(`select count(*)::int from fault.committed c where c.seq <= $3 and c.type = any($2) and not exists
			(select from fault.handled h where h.service = $1 and h.event_id = c.event_id)`, service, types, last)
	}
	return n
}

// snapshot is the state that the checker judges.
type snapshot struct {
	Ledger     []entry
	Clients    []clientRow
	Calls      []callRow
	FollowUps  []followUpRow
	Leads      []leadRow
	Counts     []countRow
	Committed  []committed
	Published  []message // without those that faults published
	Handled    []handled
	Effects    []effect
	Statuses   []status
	Copies     []copyRow
	Deliveries []deliveryRow
	Missing    int
	Webhooks   []webhook
	Bills      int      // transcriptions that the provider did
	Files      []string // names of the files beside the recordings' folders
	Unknown    int      // uploads whose COMMIT was not answered: each may leave its file until it is swept
	Settled    []string // what had not happened when the time was up
	Lost       int      // those of them that had no transcript before this fault
	Kills      int      // workers that this fault interrupted: each may cost one more transcription
}

// transcripts returns how many transcripts are stored.
func (s snapshot) transcripts() (n int) {
	for _, c := range s.Calls {
		n += c.Transcripts
	}
	return n
}

type (
	clientRow struct{ ID, Name, Notes string }
	callRow   struct {
		ID, Key, Filename, Status, Code string
		Transcripts                     int
	}
	followUpRow struct{ ID, Task, Status string }
	leadRow     struct{ ID, Name, Notes string }
	copyRow     struct {
		Table, ID string
		Version   int64
	}
	deliveryRow struct{ Event, EventID, EndpointID, Status, Reason string }
	webhook     struct {
		Event, EventID, WebhookID string
		Problems                  []string
	}
)

// look takes a snapshot. kills are the workers that were interrupted since the last one.
func (o *observer) look(l *ledger, settled []string, kills int) snapshot {
	o.world.t.Helper()
	s := snapshot{Ledger: l.all(), Committed: o.committed(), Handled: o.handled(), Settled: settled, Lost: o.lost, Kills: kills, Bills: len(o.world.openai.Requests(openai.Transcriptions))}
	s.Clients = rows[clientRow](o, `select id::text, name, coalesce(notes, '') from crm.clients`)
	s.Calls = rows[callRow](o, `select id::text, audio_key, coalesce(audio_filename, ''), status, coalesce(error_code, ''), (select count(*)::int from calls.transcripts t where t.call_id = c.id) from calls.calls c`)
	o.lost = s.Bills - s.transcripts()
	s.FollowUps = rows[followUpRow](o, `select id::text, coalesce(task, ''), status from crm.followups`)
	s.Leads = rows[leadRow](o, `select id::text, name, coalesce(notes, '') from crm.leads`)
	s.Counts = o.counts()
	s.Effects = rows[effect](o, `select target, id, version, tx from fault.effects order by seq`)
	s.Statuses = rows[status](o, `select call_id, was, became from fault.statuses order by seq`)
	for table := range copies {
		s.Copies = append(s.Copies, rows[copyRow](o, `select '`+table+`', id::text, version from `+table)...)
	}
	s.Missing = o.count(`select count(*)::int from notify.seen s where not exists (
		select from notify.deliveries d where d.id = s.delivery_id and (d.status in ('delivered', 'dead') or d.status in ('pending', 'retrying') and d.next_attempt_at is not null))`)
	s.Deliveries = rows[deliveryRow](o, `select event, event_id::text, endpoint_id::text, status, coalesce(reason, '') from notify.deliveries`)
	for _, m := range o.published {
		if !strings.HasSuffix(m.Topic, ".dlq") && !o.foreign[m.ID] {
			s.Published = append(s.Published, m)
		}
	}
	for _, d := range o.world.pabbly.Deliveries() {
		s.Webhooks = append(s.Webhooks, webhook{d.Event, d.EventID, d.Header.Get("webhook-id"), d.Problems})
	}
	for _, r := range o.world.replicas["calls"] {
		s.Unknown += unknownUploads(r.output())
	}
	for _, f := range o.files() {
		if !o.allowed[f] {
			s.Files = append(s.Files, f)
		}
	}
	return s
}

// unknownUploads counts the uploads in a log whose COMMIT was not answered.
func unknownUploads(log string) (n int) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"op":"calls.upload"`) && strings.Contains(line, libfault.ErrOutcomeUnknown.Error()) {
			n++
		}
	}
	return n
}

// files returns the paths of all files below the recordings' folder.
func (o *observer) files() []string {
	var files []string
	err := filepath.WalkDir(o.world.recordings(), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(o.world.recordings(), path)
			files = append(files, filepath.ToSlash(name))
		}
		return err
	})
	require.NoError(o.world.t, err)
	slices.Sort(files)
	return files
}

// dead returns the messages in dead-letter topics.
func (o *observer) dead() []message {
	var found []message
	for _, m := range o.published {
		if strings.HasSuffix(m.Topic, ".dlq") {
			found = append(found, m)
		}
	}
	return found
}

// leave allows the files that are there now without a call: the fault may leave them until they are swept.
func (o *observer) leave() {
	keys := map[string]bool{}
	for _, c := range rows[struct{ Key string }](o, `select audio_key from calls.calls`) {
		keys[c.Key] = true
	}
	for _, f := range o.files() {
		if !keys[f] {
			o.allowed[f] = true
		}
	}
}

// records reads a whole topic as it is.
func (o *observer) records(ctx context.Context, topic string) ([]kafka.Message, error) {
	var all []kafka.Message
	for partition, end := range o.offsets[topic] {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: o.world.kafka.addresses(), Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond,
		})
		if err := reader.SetOffset(kafka.FirstOffset); err != nil {
			return nil, err
		}
		for next := int64(0); next < end; {
			m, err := reader.ReadMessage(ctx)
			if err != nil {
				return nil, errors.Join(err, reader.Close())
			}
			next = m.Offset + 1
			all = append(all, m)
		}
		if err := reader.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

#include "agentd/worker/container.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/mem.h"

static char *image_entrypoint[] = { (char *)"/entry" }, *image_cmd[] = { (char *)"serve" };
static const char *const nameservers[] = { "10.0.1.1", "10.0.2.1" };
static const struct container_overlay overlay = {
    .gate_program = "/usr/libexec/skep/skep-gate",
    .entrypoint = image_entrypoint,
    .entrypoint_count = 1,
    .cmd = image_cmd,
    .cmd_count = 1,
    .nameservers = nameservers,
    .nameserver_count = 2,
};
static struct container_node node = {
    .cluster_id = "cluster1",
    .node_id = "node1",
    .hostname = "host1",
    .architecture = "x86_64",
    .os = "linux",
    .files_dir = "/run/skep/tasks/t1",
};

static Skep__TaskAssignment assignment;
static Skep__Task task;
static Skep__ServiceSpec service;
static Skep__TaskSpec spec;
static Skep__ContainerSpec c;
static Skep__EndpointSpec endpoint;
static Skep__ResourceRequirements resources;
static Skep__Resources limits;
static struct container_plan plan;
static json_t *body;
static struct err e;

/* A task of slot 2 that runs an image and nothing else. */
static void setup(void)
{
    skep__task_assignment__init(&assignment);
    skep__task__init(&task);
    skep__service_spec__init(&service);
    skep__task_spec__init(&spec);
    skep__container_spec__init(&c);
    skep__endpoint_spec__init(&endpoint);
    skep__resource_requirements__init(&resources);
    skep__resources__init(&limits);
    assignment.task = &task;
    assignment.spec = &service;
    assignment.service_name = (char *)"web";
    service.task = &spec;
    service.endpoint = &endpoint;
    spec.container = &c;
    spec.resources = &resources;
    resources.limits = &limits;
    task.id = (char *)"t1";
    task.service_id = (char *)"s1";
    task.slot = 2;
    c.image = (char *)"nginx";
    node.overlay = &overlay;
}

static void teardown(void)
{
    json_decref(body);
    body = NULL;
    container_plan_deinit(&plan);
}

static void make(void)
{
    int rc = container_plan_make(&assignment, &node, &plan, &e);

    ck_assert_msg(rc == 0, "%s", e.message);
    body = json_loads(plan.body, 0, NULL);
    ck_assert_ptr_nonnull(body);
}

/* path: "HostConfig.Mounts"; the member as compact JSON with sorted keys, "" when absent. */
static const char *member(const char *path)
{
    static char text[4096];
    const json_t *o = body;
    char *dump;

    while (o != NULL && *path != '\0') {
        size_t size = strcspn(path, ".");
        char key[128];

        (void)snprintf(key, sizeof(key), "%.*s", (int)size, path);
        o = json_object_get(o, key);
        path += size + (path[size] == '.');
    }
    dump = o == NULL ? NULL : json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    (void)snprintf(text, sizeof(text), "%s", dump == NULL ? "" : dump);
    free(dump);
    return text;
}

static void refused(const char *part)
{
    int rc = container_plan_make(&assignment, &node, &plan, &e);

    ck_assert_int_eq(rc, -ERR_INVALID);
    ck_assert_msg(strstr(e.message, part) != NULL, "%s", e.message);
}

/* docker_api.md §5.3, and nothing that was not asked for. */
START_TEST(smallest_body)
{
    make();
    ck_assert_str_eq(plan.name, "web.2.t1");
    ck_assert_str_eq(
        plan.body,
        "{\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"no\"}},"
        "\"Image\":\"nginx:latest\",\"Labels\":{\"com.docker.swarm.node.id\":\"node1\","
        "\"com.docker.swarm.service.id\":\"s1\","
        "\"com.docker.swarm.service.name\":\"web\",\"com.docker.swarm.task\":\"\","
        "\"com.docker.swarm.task.id\":\"t1\","
        "\"com.docker.swarm.task.name\":\"web.2.t1\",\"io.skep.cluster\":\"cluster1\"}}");
}
END_TEST

START_TEST(global_tasks_have_their_node_as_slot)
{
    static char *env[] = { (char *)"S={{.Task.Slot}}" };

    task.slot = 0;
    c.env = env;
    c.n_env = 1;
    make();
    ck_assert_str_eq(plan.name, "web.node1.t1");
    ck_assert_str_eq(member("Env"), "[\"S=node1\"]");
}
END_TEST

START_TEST(system_labels_win)
{
    Skep__KeyValue mine = { .base = PROTOBUF_C_MESSAGE_INIT(&skep__key_value__descriptor),
                            .key = (char *)LABEL_TASK_ID,
                            .value = (char *)"forged" };
    Skep__KeyValue ok = { .base = PROTOBUF_C_MESSAGE_INIT(&skep__key_value__descriptor),
                          .key = (char *)"com.docker.stack.namespace",
                          .value = (char *)"shop" };
    Skep__KeyValue *labels[] = { &mine, &ok };

    c.labels = labels;
    c.n_labels = 2;
    make();
    ck_assert_ptr_nonnull(strstr(member("Labels"), "\"com.docker.swarm.task.id\":\"t1\""));
    ck_assert_ptr_nonnull(strstr(member("Labels"), "\"com.docker.stack.namespace\":\"shop\""));
}
END_TEST

START_TEST(process_fields)
{
    static char *command[] = { (char *)"/bin/x" }, *args[] = { (char *)"-a", (char *)"{{b}}" };
    static char *env[] = { (char *)"H={{.Node.Hostname}}", (char *)"P=1" };
    static char *groups[] = { (char *)"audio" };

    c.command = command;
    c.n_command = 1;
    c.args = args;
    c.n_args = 2;
    c.env = env;
    c.n_env = 2;
    c.groups = groups;
    c.n_groups = 1;
    c.hostname = (char *)"{{.Service.Name}}-{{.Task.Slot}}";
    c.dir = (char *)"/srv";
    c.user = (char *)"1000:1000";
    c.stop_signal = (char *)"SIGQUIT";
    c.stop_grace_period = 1500000000;
    c.tty = c.open_stdin = c.read_only = true;
    c.init = SKEP__CONTAINER_SPEC__INIT__INIT_FALSE;
    make();
    ck_assert_str_eq(member("Entrypoint"), "[\"/bin/x\"]");
    ck_assert_str_eq(member("Cmd"), "[\"-a\",\"{{b}}\"]"); /* arguments are not templates */
    ck_assert_str_eq(member("Env"), "[\"H=host1\",\"P=1\"]");
    ck_assert_str_eq(member("Hostname"), "\"web-2\"");
    ck_assert_str_eq(member("WorkingDir"), "\"/srv\"");
    ck_assert_str_eq(member("User"), "\"1000:1000\"");
    ck_assert_str_eq(member("StopSignal"), "\"SIGQUIT\"");
    ck_assert_str_eq(member("StopTimeout"), "2");
    ck_assert_str_eq(member("Tty"), "true");
    ck_assert_str_eq(member("OpenStdin"), "true");
    ck_assert_str_eq(member("HostConfig.GroupAdd"), "[\"audio\"]");
    ck_assert_str_eq(member("HostConfig.ReadonlyRootfs"), "true");
    ck_assert_str_eq(member("HostConfig.Init"), "false");
}
END_TEST

START_TEST(host_fields)
{
    static char *dns[] = { (char *)"10.0.0.1" }, *hosts[] = { (char *)"10.0.0.2 db other" };
    static char *caps[] = { (char *)"CAP_NET_ADMIN" };
    static char *ulimits[] = { (char *)"nofile=10:20", (char *)"core=-1" };
    Skep__KeyValue sysctl = { .base = PROTOBUF_C_MESSAGE_INIT(&skep__key_value__descriptor),
                              .key = (char *)"net.core.somaxconn",
                              .value = (char *)"9" };
    Skep__KeyValue *sysctls[] = { &sysctl };
    Skep__Driver log = SKEP__DRIVER__INIT;
    Skep__NetworkAttachmentConfig host = SKEP__NETWORK_ATTACHMENT_CONFIG__INIT, *nets[] = { &host };

    c.dns_nameservers = c.dns_search = c.dns_options = dns;
    c.n_dns_nameservers = c.n_dns_search = c.n_dns_options = 1;
    c.hosts = hosts;
    c.n_hosts = 1;
    c.cap_add = c.cap_drop = caps;
    c.n_cap_add = c.n_cap_drop = 1;
    c.ulimits = ulimits;
    c.n_ulimits = 2;
    c.sysctls = sysctls;
    c.n_sysctls = 1;
    log.name = (char *)"json-file";
    log.options = sysctls;
    log.n_options = 1;
    spec.log_driver = &log;
    limits.nano_cpus = 500000000;
    limits.memory_bytes = 64 << 20;
    limits.pids = 100;
    host.target = (char *)"host";
    spec.networks = nets;
    spec.n_networks = 1;
    make();
    ck_assert_str_eq(member("HostConfig.Dns"), "[\"10.0.0.1\"]");
    ck_assert_str_eq(member("HostConfig.DnsSearch"), "[\"10.0.0.1\"]");
    ck_assert_str_eq(member("HostConfig.DnsOptions"), "[\"10.0.0.1\"]");
    ck_assert_str_eq(member("HostConfig.ExtraHosts"), "[\"db:10.0.0.2\"]");
    ck_assert_str_eq(member("HostConfig.CapAdd"), "[\"CAP_NET_ADMIN\"]");
    ck_assert_str_eq(member("HostConfig.CapDrop"), "[\"CAP_NET_ADMIN\"]");
    ck_assert_str_eq(member("HostConfig.Ulimits"), "[{\"Hard\":20,\"Name\":\"nofile\",\"Soft\":10},"
                                                   "{\"Hard\":-1,\"Name\":\"core\",\"Soft\":-1}]");
    ck_assert_str_eq(member("HostConfig.Sysctls"), "{\"net.core.somaxconn\":\"9\"}");
    ck_assert_str_eq(member("HostConfig.LogConfig"),
                     "{\"Config\":{\"net.core.somaxconn\":\"9\"},\"Type\":\"json-file\"}");
    ck_assert_str_eq(member("HostConfig.NanoCpus"), "500000000");
    ck_assert_str_eq(member("HostConfig.Memory"), "67108864");
    ck_assert_str_eq(member("HostConfig.PidsLimit"), "100");
    ck_assert_str_eq(member("HostConfig.NetworkMode"), "\"host\"");
}
END_TEST

START_TEST(health_check)
{
    static char *test[] = { (char *)"CMD", (char *)"true" };
    Skep__HealthConfig h = SKEP__HEALTH_CONFIG__INIT;

    h.test = test;
    h.n_test = 2;
    h.interval = 1000000000;
    h.retries = 3;
    c.healthcheck = &h;
    make();
    ck_assert_str_eq(member("Healthcheck"),
                     "{\"Interval\":1000000000,\"Retries\":3,\"Test\":[\"CMD\",\"true\"]}");
}
END_TEST

START_TEST(host_ports_only)
{
    Skep__PortConfig p[4], *ports[4];

    for (int i = 0; i < 4; i++) {
        skep__port_config__init(&p[i]);
        ports[i] = &p[i];
        p[i].publish_mode = SKEP__PUBLISH_MODE__PUBLISH_HOST;
        p[i].target_port = 80;
    }
    p[0].published_port = 8080;
    p[0].host_ip = (char *)"127.0.0.1";
    p[1].published_port = 8081;
    p[2].protocol = SKEP__PROTOCOL__PROTOCOL_UDP; /* published 0: chosen by the engine */
    p[3].publish_mode = SKEP__PUBLISH_MODE__PUBLISH_INGRESS;
    p[3].target_port = 443;
    endpoint.ports = ports;
    endpoint.n_ports = 4;
    make();
    ck_assert_str_eq(member("ExposedPorts"), "{\"80/tcp\":{},\"80/udp\":{}}");
    ck_assert_str_eq(member("HostConfig.PortBindings"),
                     "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"8080\"},"
                     "{\"HostPort\":\"8081\"}],\"80/udp\":[{}]}");
    ck_assert(plan.host_ports);
}
END_TEST

/* ---- networks ---- */

/* Two overlays (n1, n2), and a macvlan (n3) and a bridge (n4) that the engine makes. */
static Skep__NetworkAttachment attachments[2], *attached[2];
static Skep__NetworkAttachmentConfig wanted[4], *wants[4];
static Skep__Network networks[2], *engine_networks[2];
static Skep__NetworkSpec network_specs[2];
static Skep__Annotations names[2];
static Skep__Driver drivers[2];

static void want(size_t count, const char *const *targets)
{
    for (size_t i = 0; i < count; i++) {
        skep__network_attachment_config__init(&wanted[i]);
        wanted[i].target = (char *)targets[i];
        wants[i] = &wanted[i];
    }
    spec.networks = wants;
    spec.n_networks = count;
}

static void have_overlays(size_t count)
{
    static const char *const ids[] = { "n1", "n2" };

    for (size_t i = 0; i < count; i++) {
        skep__network_attachment__init(&attachments[i]);
        attachments[i].network_id = (char *)ids[i];
        attached[i] = &attachments[i];
    }
    task.networks = attached;
    task.n_networks = count;
}

static void have_engine_networks(void)
{
    static const char *const ids[] = { "n3", "n4" }, *const of[] = { "lan", "local" };
    static const char *const driver_names[] = { "macvlan", "bridge" };

    for (size_t i = 0; i < 2; i++) {
        skep__network__init(&networks[i]);
        skep__network_spec__init(&network_specs[i]);
        skep__annotations__init(&names[i]);
        skep__driver__init(&drivers[i]);
        networks[i].id = (char *)ids[i];
        networks[i].spec = &network_specs[i];
        network_specs[i].annotations = &names[i];
        network_specs[i].driver = &drivers[i];
        names[i].name = (char *)of[i];
        drivers[i].name = (char *)driver_names[i];
        engine_networks[i] = &networks[i];
    }
    assignment.networks = engine_networks;
    assignment.n_networks = 2;
}

/* docker_api.md §6.3 F: the gate is the entrypoint, the real process its arguments; the container
 * sees the gate and its pipes, read-only; names are asked of the gateways. */
START_TEST(overlays_start_at_the_gate)
{
    have_overlays(2);
    want(2, (const char *const[]){ "n1", "n2" });
    make();
    ck_assert(plan.gate);
    ck_assert_str_eq(member("Entrypoint"), "[\"/.skep/gate\",\"/.skep/task\"]");
    ck_assert_str_eq(member("Cmd"), "[\"/entry\",\"serve\"]");
    ck_assert_str_eq(member("HostConfig.NetworkMode"), "\"none\"");
    ck_assert_str_eq(member("HostConfig.Dns"), "[\"10.0.1.1\",\"10.0.2.1\"]");
    ck_assert_str_eq(member("HostConfig.DnsOptions"), "[\"ndots:0\"]");
    ck_assert_str_eq(member("HostConfig.DnsSearch"), "");
    ck_assert_str_eq(
        member("HostConfig.Mounts"),
        "[{\"ReadOnly\":true,\"Source\":\"/usr/libexec/skep/skep-gate\","
        "\"Target\":\"/.skep/gate\",\"Type\":\"bind\"},{\"ReadOnly\":true,"
        "\"Source\":\"/run/skep/tasks/t1/gate\",\"Target\":\"/.skep/task\",\"Type\":\"bind\"}]");
    ck_assert_uint_eq(plan.network_count, 0);
}
END_TEST

/* Command and arguments against the image's, as the engine has it: a command drops the image's
 * arguments, arguments alone keep its entrypoint. */
static const struct argv_case {
    bool command, args, entrypoint, cmd;
    const char *want; /* NULL: refused */
} argvs[] = {
    { false, false, true, true, "[\"/entry\",\"serve\"]" },
    { false, false, true, false, "[\"/entry\"]" },
    { false, false, false, true, "[\"serve\"]" },
    { false, false, false, false, NULL },
    { true, false, true, true, "[\"/bin/x\"]" },
    { true, true, true, true, "[\"/bin/x\",\"-a\"]" },
    { false, true, true, true, "[\"/entry\",\"-a\"]" },
    { false, true, false, true, "[\"-a\"]" },
};

START_TEST(the_real_process_is_put_together)
{
    static char *command[] = { (char *)"/bin/x" }, *args[] = { (char *)"-a" };
    const struct argv_case *k = &argvs[_i];
    struct container_overlay o = overlay;

    o.entrypoint_count = k->entrypoint;
    o.cmd_count = k->cmd;
    node.overlay = &o;
    c.command = command;
    c.n_command = k->command;
    c.args = args;
    c.n_args = k->args;
    have_overlays(1);
    if (k->want == NULL) {
        refused("no command specified");
        return;
    }
    make();
    ck_assert_str_eq(member("Cmd"), k->want);
}
END_TEST

START_TEST(overlay_options_are_merged)
{
    static char *options[] = { (char *)"ndots:2", (char *)"rotate" };
    static char *search[] = { (char *)"corp" }, *servers[] = { (char *)"9.9.9.9" };
    Skep__PortConfig port = SKEP__PORT_CONFIG__INIT, *ports[] = { &port };
    Skep__Mount m = SKEP__MOUNT__INIT, *mounts[] = { &m };

    c.dns_options = options;
    c.n_dns_options = 2;
    c.dns_search = search;
    c.n_dns_search = 1;
    c.dns_nameservers = servers;
    c.n_dns_nameservers = 1;
    c.hostname = (char *)"db";
    m.type = SKEP__MOUNT__TYPE__TMPFS;
    m.target = (char *)"/t";
    c.mounts = mounts;
    c.n_mounts = 1;
    port.publish_mode = SKEP__PUBLISH_MODE__PUBLISH_HOST;
    port.target_port = port.published_port = 80;
    endpoint.ports = ports;
    endpoint.n_ports = 1;
    have_overlays(1);
    make();
    ck_assert_str_eq(member("HostConfig.DnsOptions"), "[\"ndots:2\",\"rotate\"]");
    ck_assert_str_eq(member("HostConfig.DnsSearch"), "[\"corp\"]");
    ck_assert_str_eq(member("HostConfig.Dns"), "[\"10.0.1.1\",\"10.0.2.1\"]");
    ck_assert_str_eq(member("Hostname"), "\"db\"");
    ck_assert_str_eq(member("HostConfig.PortBindings"), ""); /* agentd/net translates them */
    ck_assert_ptr_nonnull(strstr(member("HostConfig.Mounts"), "\"/t\""));
    ck_assert_ptr_nonnull(strstr(member("HostConfig.Mounts"), "/.skep/gate"));
}
END_TEST

/* What the engine makes: the first is the mode, further ones are connected; labels say whose. */
START_TEST(the_engine_makes_its_networks)
{
    static char *aliases[] = { (char *)"me" };
    Skep__IpamConfig ipam = SKEP__IPAM_CONFIG__INIT, *ipams[] = { &ipam };
    Skep__KeyValue option = { .base = PROTOBUF_C_MESSAGE_INIT(&skep__key_value__descriptor),
                              .key = (char *)"parent",
                              .value = (char *)"eth0" };
    Skep__KeyValue *options[] = { &option };

    have_engine_networks();
    want(3, (const char *const[]){ "n3", "n4", "bridge" });
    wanted[0].aliases = aliases;
    wanted[0].n_aliases = 1;
    ipam.subnet = (char *)"10.9.0.0/24";
    ipam.gateway = (char *)"10.9.0.1";
    ipam.reserved = options;
    ipam.n_reserved = 1;
    network_specs[0].ipam = ipams;
    network_specs[0].n_ipam = 1;
    network_specs[0].internal = true;
    drivers[0].options = options;
    drivers[0].n_options = 1;
    make();
    ck_assert(!plan.gate);
    ck_assert_str_eq(member("HostConfig.NetworkMode"), "\"lan\"");
    ck_assert_str_eq(member("NetworkingConfig"),
                     "{\"EndpointsConfig\":{\"lan\":{\"Aliases\":[\"me\"]}}}");
    ck_assert_uint_eq(plan.network_count, 3);
    ck_assert_str_eq(plan.networks[0].id, "n3");
    ck_assert_str_eq(
        plan.networks[0].create_body,
        "{\"CheckDuplicate\":true,\"Driver\":\"macvlan\",\"IPAM\":{\"Config\":[{"
        "\"AuxiliaryAddresses\":{\"parent\":\"eth0\"},\"Gateway\":\"10.9.0.1\",\"Subnet\":"
        "\"10.9.0.0/24\"}],\"Driver\":\"default\"},\"Internal\":true,\"Labels\":{"
        "\"io.skep.cluster\":\"cluster1\",\"io.skep.network\":\"n3\"},\"Name\":\"lan\","
        "\"Options\":{\"parent\":\"eth0\"}}");
    ck_assert_ptr_null(plan.networks[0].connect_body);
    ck_assert_str_eq(plan.networks[1].name, "local");
    ck_assert_str_eq(plan.networks[1].connect_body, "{\"EndpointConfig\":{}}");
    ck_assert_str_eq(plan.networks[2].name, "bridge");
    ck_assert_ptr_null(plan.networks[2].create_body);
    ck_assert_ptr_nonnull(plan.networks[2].connect_body);
}
END_TEST

/* An overlay beside a network of the engine: the engine's is the mode, ours comes in addition. */
START_TEST(both_kinds_together)
{
    have_overlays(1);
    have_engine_networks();
    want(2, (const char *const[]){ "n1", "n4" });
    make();
    ck_assert(plan.gate);
    ck_assert_str_eq(member("HostConfig.NetworkMode"), "\"local\"");
    ck_assert_uint_eq(plan.network_count, 1);
    ck_assert_str_eq(member("HostConfig.Dns"), "[\"10.0.1.1\",\"10.0.2.1\"]");
    ck_assert_str_eq(member("HostConfig.DnsOptions"), ""); /* the engine's resolver has its own */
}
END_TEST

/* The engine's own networks by name or as objects of the cluster. */
START_TEST(predefined_networks_are_modes)
{
    have_engine_networks();
    names[0].name = (char *)"host";
    drivers[0].name = (char *)"host";
    want(1, (const char *const[]){ "n3" });
    make();
    ck_assert_str_eq(member("HostConfig.NetworkMode"), "\"host\"");
    ck_assert_str_eq(member("NetworkingConfig"), "");
    ck_assert_ptr_null(plan.networks[0].create_body);
}
END_TEST

START_TEST(impossible_networks_are_refused)
{
    have_overlays(1);
    want(2, (const char *const[]){ "n1", "host" });
    refused("network host cannot be combined with others");
    want(1, (const char *const[]){ "n1" });
    node.overlay = NULL;
    refused("overlay networks are not available on this node");
    task.n_networks = 0;
    have_engine_networks();
    want(2, (const char *const[]){ "n3", "none" });
    refused("network none cannot be combined with others");
}
END_TEST

START_TEST(mounts_of_all_kinds)
{
    Skep__Mount m[4], *mounts[4];
    Skep__KeyValue label = { .base = PROTOBUF_C_MESSAGE_INIT(&skep__key_value__descriptor),
                             .key = (char *)"l",
                             .value = (char *)"{{.Task.Slot}}" };
    Skep__KeyValue *labels[] = { &label };
    Skep__Driver driver = SKEP__DRIVER__INIT;

    for (int i = 0; i < 4; i++) {
        skep__mount__init(&m[i]);
        mounts[i] = &m[i];
        m[i].target = (char *)"/t";
    }
    m[0].source = (char *)"/srv/{{.Service.Name}}";
    m[0].bind_create = true;
    m[0].read_only = true;
    m[0].propagation = SKEP__MOUNT__PROPAGATION__RSLAVE;
    m[0].bind_nonrecursive = true;
    m[1].type = SKEP__MOUNT__TYPE__VOLUME;
    m[1].source = (char *)"data-{{.Task.Slot}}";
    m[1].volume_nocopy = true;
    m[1].volume_labels = labels;
    m[1].n_volume_labels = 1;
    driver.name = (char *)"nfs";
    driver.options = labels;
    driver.n_options = 1;
    m[1].volume_driver = &driver;
    m[2].type = SKEP__MOUNT__TYPE__VOLUME; /* anonymous */
    m[3].type = SKEP__MOUNT__TYPE__TMPFS;
    m[3].tmpfs_size_bytes = 4096;
    m[3].tmpfs_mode = 0700;
    c.mounts = mounts;
    c.n_mounts = 4;
    make();
    ck_assert_str_eq(
        member("HostConfig.Mounts"),
        "[{\"BindOptions\":{\"NonRecursive\":true,\"Propagation\":\"rslave\"},\"ReadOnly\":true,"
        "\"Source\":\"/srv/web\",\"Target\":\"/t\",\"Type\":\"bind\"},"
        "{\"Source\":\"data-2\",\"Target\":\"/t\",\"Type\":\"volume\",\"VolumeOptions\":{"
        "\"DriverConfig\":{\"Name\":\"nfs\",\"Options\":{\"l\":\"2\"}},\"Labels\":{\"l\":\"2\"},"
        "\"NoCopy\":true}},{\"Target\":\"/t\",\"Type\":\"volume\"},"
        "{\"Target\":\"/"
        "t\",\"TmpfsOptions\":{\"Mode\":448,\"SizeBytes\":4096},\"Type\":\"tmpfs\"}]");
    ck_assert_uint_eq(plan.bind_count, 1);
    ck_assert_str_eq(plan.binds[0].source, "/srv/web");
    ck_assert(plan.binds[0].create);
    ck_assert_uint_eq(plan.volume_count, 1);
    ck_assert_str_eq(plan.volumes[0], "{\"Driver\":\"nfs\",\"DriverOpts\":{\"l\":\"2\"},"
                                      "\"Labels\":{\"l\":\"2\"},\"Name\":\"data-2\"}");
}
END_TEST

START_TEST(files_are_mounted_read_only)
{
    Skep__FileTarget relative = SKEP__FILE_TARGET__INIT, absolute = SKEP__FILE_TARGET__INIT;
    Skep__SecretReference s = SKEP__SECRET_REFERENCE__INIT, *secrets[] = { &s };
    Skep__ConfigReference a = SKEP__CONFIG_REFERENCE__INIT, b = SKEP__CONFIG_REFERENCE__INIT;
    Skep__ConfigReference *configs[] = { &a, &b };

    relative.name = (char *)"key";
    relative.uid = (char *)"7";
    relative.gid = (char *)"8";
    relative.mode = 0400;
    absolute.name = (char *)"/etc/x.conf";
    s.secret_id = (char *)"sec";
    s.file = &relative;
    a.config_id = (char *)"con";
    a.file = &relative;
    b.config_id = (char *)"con";
    b.file = &absolute;
    c.secrets = secrets;
    c.n_secrets = 1;
    c.configs = configs;
    c.n_configs = 2;
    make();
    ck_assert_str_eq(
        member("HostConfig.Mounts"),
        "[{\"ReadOnly\":true,\"Source\":\"/run/skep/tasks/t1/s0\",\"Target\":\"/run/secrets/key\","
        "\"Type\":\"bind\"},{\"ReadOnly\":true,\"Source\":\"/run/skep/tasks/t1/c1\","
        "\"Target\":\"/key\",\"Type\":\"bind\"},{\"ReadOnly\":true,"
        "\"Source\":\"/run/skep/tasks/t1/c2\",\"Target\":\"/etc/x.conf\",\"Type\":\"bind\"}]");
    ck_assert_uint_eq(plan.file_count, 3);
    ck_assert_uint_eq(plan.files[0].uid, 7);
    ck_assert_uint_eq(plan.files[0].gid, 8);
    ck_assert_uint_eq(plan.files[0].mode, 0400);
    ck_assert_uint_eq(plan.files[2].mode, 0444);
    ck_assert_uint_eq(plan.bind_count, 0); /* ours are not checked as the user's */
    relative.uid = (char *)"root";
    container_plan_deinit(&plan);
    refused("uid and gid must be numbers");
}
END_TEST

START_TEST(what_cannot_be_honoured_is_refused)
{
    static char *env[] = { (char *)"A={{.Nope}}" };
    static char *hosts[] = { (char *)"onlyip" }, *ulimits[] = { (char *)"nofile" };
    static char *bad_ulimits[] = { (char *)"nofile=1:" };
    Skep__Mount m = SKEP__MOUNT__INIT, *mounts[] = { &m };

    c.image = (char *)"";
    refused("invalid reference format");
    c.image = (char *)"nginx";
    c.env = env;
    c.n_env = 1;
    refused("env: template: cannot evaluate '.Nope'");
    c.n_env = 0;
    c.hosts = hosts;
    c.n_hosts = 1;
    refused("'onlyip' is not 'IP name'");
    c.n_hosts = 0;
    c.ulimits = ulimits;
    c.n_ulimits = 1;
    refused("'nofile' is not name=soft:hard");
    c.ulimits = bad_ulimits;
    refused("'nofile=1:' is not name=soft:hard");
    c.n_ulimits = 0;
    m.source = (char *)"relative";
    c.mounts = mounts;
    c.n_mounts = 1;
    refused("mount path must be absolute");
    spec.container = NULL;
    refused("without a container specification");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent container");
    TCase *tc = tcase_create("container");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, smallest_body);
    tcase_add_test(tc, global_tasks_have_their_node_as_slot);
    tcase_add_test(tc, system_labels_win);
    tcase_add_test(tc, process_fields);
    tcase_add_test(tc, host_fields);
    tcase_add_test(tc, health_check);
    tcase_add_test(tc, host_ports_only);
    tcase_add_test(tc, overlays_start_at_the_gate);
    tcase_add_loop_test(tc, the_real_process_is_put_together, 0, (int)ARRAY_LEN(argvs));
    tcase_add_test(tc, overlay_options_are_merged);
    tcase_add_test(tc, the_engine_makes_its_networks);
    tcase_add_test(tc, both_kinds_together);
    tcase_add_test(tc, predefined_networks_are_modes);
    tcase_add_test(tc, impossible_networks_are_refused);
    tcase_add_test(tc, mounts_of_all_kinds);
    tcase_add_test(tc, files_are_mounted_read_only);
    tcase_add_test(tc, what_cannot_be_honoured_is_refused);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#include "agentd/worker/container.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/mem.h"

static const struct container_node node = {
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

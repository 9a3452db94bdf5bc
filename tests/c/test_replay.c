/* Replaying rows of batches into a store: what comes out is what went in, hostile rows harm nobody, all or none. */
#include "batch.h"

#include "wfpsa/backend.h"
#include "wfpsa/replay.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- helpers ---- */

static struct wfpsa_store *
make_store(void)
{
    int created;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(store != NULL && created);
    wfpsa_store_clock(store, 1);
    return store;
}

static struct wfpsa_columns *
contents(const struct wfpsa_store *store, uint32_t version)
{
    struct wfpsa_failure failure;
    struct wfpsa_session *session;
    CHECK_EQUAL(wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    struct wfpsa_columns *batch = snapshot_all(session, version);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    return batch;
}

static struct wfpsa_columns *
seeded(uint32_t version, uint64_t count, enum wfpsa_population population)
{
    struct wfpsa_store *store = make_store();
    CHECK(wfpsa_store_seed(store, count, 5, population));
    struct wfpsa_columns *batch = contents(store, version);
    wfpsa_store_release(store);
    return batch;
}

static uint64_t
random_word(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state ^ *state >> 33;
}

/* ---- tests ---- */

static void
a_replayed_store_shows_the_batch(void)
{
    for (uint32_t version = 0; version <= 1; version++) {
        for (int population = WFPSA_PLAUSIBLE; population <= WFPSA_FULL; population++) {
            uint64_t failed = 99;
            struct wfpsa_columns *batch = seeded(version, 700, (enum wfpsa_population)population);
            struct wfpsa_columns *backwards = wfpsa_take(batch, 699, -2, NULL, 350);
            struct wfpsa_store *whole = make_store(), *part = make_store();
            CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, whole, batch, 0, 1, 700, &failed), 0);
            CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, part, batch, 699, -2, 350, &failed), 0);
            struct wfpsa_columns *again = contents(whole, version), *some = contents(part, version);
            CHECK(is_sound(again) && same_rows(batch, again));
            CHECK(is_sound(some) && same_rows(backwards, some));
            wfpsa_columns_release(again);
            wfpsa_columns_release(some);
            wfpsa_columns_release(backwards);
            wfpsa_columns_release(batch);
            wfpsa_store_release(whole);
            wfpsa_store_release(part);
        }
    }
}

/* Cells, presence and names of any bytes, as a forged pickle may have them: nothing is read beyond its end. */
static void
rows_of_any_bytes_give_a_sound_store(void)
{
    static const char text[] = "\xFF\xF0\x9F\x98\x80\xC3(\xE2\x82\xED\xA0\x80\xF4\x90\x80\x80plain\xF0\x9F\x98";
    static const int32_t offsets[] = {0, 0, 1, 5, 7, 9, 12, 16, 21, (int32_t)sizeof text - 1};
    uint64_t state = 1, failed;
    for (int round = 0; round < 60; round++) {
        uint8_t wanted[WFPSA_COLUMN_COUNT];
        for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
            wanted[i] = i == WFPSA_COLUMN_context_id || round % 3 == 0 || random_word(&state) & 1;
        }
        struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 50);
        CHECK_EQUAL(wfpsa_columns_set_strings(batch, COUNT(offsets) - 2, offsets, text), WFPSA_OK);
        for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
            uint8_t *cells = batch->columns[i];
            for (uint64_t at = 0; cells && at < 50 * (uint64_t)wfpsa_column_info(i)->width; at++) {
                uint64_t r = random_word(&state);
                cells[at] = (uint8_t)(r & 0x300 ? r % 7 : r & 0x400 ? 255 : r >> 40);
            }
            for (uint64_t row = 0; cells && wfpsa_column_info(i)->kind == WFPSA_TEXT && row < 50; row++) {
                ((uint32_t *)cells)[row] %= row % 10 ? COUNT(offsets) - 1 : 1000; /* some beyond the last */
            }
        }
        for (uint64_t row = 0; row < 50; row++) {
            ((uint64_t *)batch->columns[WFPSA_COLUMN_context_id])[row] = row * 3;
            batch->presence[row] = (uint8_t)random_word(&state);
        }
        struct wfpsa_store *store = make_store();
        CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 0, 1, 50, &failed), 0);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *found = contents(store, version);
            CHECK_EQUAL(found->length, 50);
            CHECK(is_sound(found));
            wfpsa_columns_release(found);
        }
        wfpsa_store_release(store);
        wfpsa_columns_release(batch);
    }
}

static void
an_id_that_is_taken_adds_nothing(void)
{
    uint64_t failed = 0;
    struct wfpsa_columns *batch = seeded(1, 300, WFPSA_ODD);
    struct wfpsa_store *store = make_store();
    CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 250, 1, 1, &failed), 0);
    CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 0, 1, 300, &failed), (uint32_t)FWP_E_ALREADY_EXISTS);
    CHECK_EQUAL(failed, 250);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 7, 0, 2, &failed),
                (uint32_t)FWP_E_ALREADY_EXISTS); /* a row twice */
    CHECK_EQUAL(failed, 1);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 251, 1, 49, &failed), 0);
    CHECK_EQUAL(wfpsa_replay(wfpsa_store_replay, store, batch, 0, 1, 250, &failed), 0);
    struct wfpsa_columns *all = contents(store, 1);
    CHECK_EQUAL(all->length, 300);
    for (uint64_t row = 0; row < all->length; row++) {
        uint64_t own = row_of(batch, U64(all, context_id, row));
        CHECK(own < batch->length && wfpsa_rows_equal(all, row, batch, own, NULL));
    }
    wfpsa_columns_release(all);
    wfpsa_columns_release(batch);
    wfpsa_store_release(store);
}

static void
without_memory_nothing_is_added(void)
{
    uint64_t failed = 0, nth = 0;
    struct wfpsa_columns *batch = seeded(1, 40, WFPSA_ODD);
    uint32_t code = ERROR_NOT_ENOUGH_MEMORY;
    while (code == ERROR_NOT_ENOUGH_MEMORY) {
        struct wfpsa_store *store = make_store();
        wfpsa_embedded_fail_allocation(++nth);
        code = wfpsa_replay(wfpsa_store_replay, store, batch, 0, 1, 40, &failed);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(wfpsa_store_count(store), code == 0 ? 40 : 0);
        CHECK(code == 0 || code == ERROR_NOT_ENOUGH_MEMORY);
        wfpsa_store_release(store);
    }
    CHECK(nth > 40);
    wfpsa_columns_release(batch);
}

/* ---- the engine's own door ---- */

static IPSEC_SA_CONTEXT1 given_context;
static IPSEC_SA_DETAILS1 given_details;

static const IPSEC_SA_CONTEXT1 *
the_given(void *source, uint64_t index)
{
    CHECK(source == &given_context && index == 0);
    return &given_context;
}

static uint32_t
replay_given(struct wfpsa_store *store)
{
    uint64_t failed;
    return wfpsa_store_replay(store, 1, the_given, &given_context, &failed);
}

static void
structures_are_followed_no_further_than_they_hold(void)
{
    static WCHAR name[32769];
    static IPSEC_SA0 list[2];
    static IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 both;
    static IPSEC_ID0 identity;
    static IPSEC_KEYMODULE_STATE0 state;
    memset(&given_context, 0, sizeof given_context);
    memset(&given_details, 0, sizeof given_details);
    given_context.saContextId = 77;
    given_context.inboundSa = &given_details;
    given_details.ipVersion = (FWP_IP_VERSION)0xFFFFFFFFu;
    given_details.traffic.ipVersion = (FWP_IP_VERSION)0xFFFFFFFFu;
    given_details.traffic.trafficType = (IPSEC_TRAFFIC_TYPE)0xFFFFFFFFu;
    given_details.saBundle.numSAs = 0xFFFFFFFFu; /* of a list of two */
    given_details.saBundle.saList = list;
    given_details.saBundle.ipsecId = &identity;
    given_details.saBundle.keyModuleState = &state;
    list[0].saTransformType = IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER;
    list[0].espAuthAndCipherInformation = &both;
    both.saAuthInformation.authKey.size = 0xFFFFFFFFu; /* of no bytes at all */
    both.saCipherInformation.cipherKey.size = 0xFFFFFFFFu;
    both.saCipherInformation.cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)0xFFFFFFFFu;
    list[1].saTransformType = (IPSEC_TRANSFORM_TYPE)99;
    list[1].ahInformation = (void *)name; /* nobody knows what this would be */
    state.stateBlob.size = 0xFFFFFFFFu;
    for (size_t i = 0; i < COUNT(name); i++) {
        name[i] = 'n';
    }
    identity.mmTargetName = name; /* it has no end */
    struct wfpsa_store *store = make_store();
    CHECK_EQUAL(replay_given(store), (uint32_t)FWP_E_OUT_OF_BOUNDS);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    name[32767] = 0;
    CHECK_EQUAL(replay_given(store), 0);
    struct wfpsa_columns *found = contents(store, 1);
    CHECK_EQUAL(found->length, 1);
    CHECK_EQUAL(U64(found, context_id, 0), 77);
    CHECK_EQUAL(U8(found, sa_count_in, 0), 254);
    CHECK_EQUAL(U8(found, cipher_type_in, 0), 254);
    CHECK_EQUAL(U8(found, ip_version, 0), WFPSA_IP_VERSION_OTHER);
    CHECK(ABSENT(found, ah_auth_type_in, 0) && ABSENT(found, spi_out, 0) && !ABSENT(found, ah_spi_in, 0));
    CHECK_EQUAL(found->strings.offsets[2], 32767);
    wfpsa_columns_release(found);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(a_replayed_store_shows_the_batch);
    RUN(rows_of_any_bytes_give_a_sound_store);
    RUN(an_id_that_is_taken_adds_nothing);
    RUN(without_memory_nothing_is_added);
    RUN(structures_are_followed_no_further_than_they_hold);
    return closing_line();
}

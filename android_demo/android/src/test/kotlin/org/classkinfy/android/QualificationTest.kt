package org.classkinfy.android

import java.io.File
import org.classkinfy.core.Bundle
import org.classkinfy.core.EngineException
import org.classkinfy.core.Options
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test

/** On a bundle of the toolkit, in ONNX Runtime. */
class QualificationTest {
    private val bundle = Bundle.open(File(System.getProperty("classkinfy.bundle")))
    private val memory = object : Qualification.Memory {
        val verdicts = HashMap<String, String>()

        override fun get(key: String): String? = verdicts[key]

        override fun put(key: String, verdict: String) {
            verdicts[key] = verdict
        }
    }
    private val cpu = Options("onnxruntime", "fp32")
    private val liar = cpu.copy(accelerator = TestEngineProvider.LIAR)

    @Before
    fun forget() = TestEngineProvider.opened.clear()

    private fun qualified(vararg wishes: Options, app: String = "1.0", system: String = "phone") =
        Qualification(memory, app, system).first(bundle, wishes.toList()).also { it.pipeline.close() }

    @Test
    fun anEngineThatAgreesIsTaken() {
        val result = qualified(cpu)
        assertEquals(cpu, result.options)
        assertNull(result.trials.single().failure)
    }

    @Test
    fun anAcceleratorThatDisagreesGivesWayToTheCpu() {
        val result = qualified(liar, cpu)
        assertEquals(cpu, result.options)
        val failure = result.trials.first().failure!!
        assertTrue(failure, "is off by 0.0099" in failure && "is allowed" in failure)
    }

    @Test
    fun whatCannotBeHadGivesWayToo() {
        val absent = cpu.copy(accelerator = "absent")
        val unlinked = cpu.copy(accelerator = TestEngineProvider.UNLINKED)
        val result = qualified(absent, unlinked, cpu)
        assertEquals(cpu, result.options)
        val reasons = result.trials.map { it.failure }
        assertTrue("$reasons", "there is no accelerator absent" in reasons[0]!!)
        assertEquals("its library cannot be loaded: no libaccelerator.so", reasons[1])
    }

    @Test
    fun thereIsNoAnswerWhenNoneAgrees() {
        val error = assertThrows(EngineException::class.java) { qualified(liar) }
        assertTrue(error.message, error.message!!.startsWith("no runtime on this phone agrees"))
        assertTrue(error.message, "onnxruntime on liar: " in error.message!!)
    }

    @Test
    fun aVerdictIsRememberedUntilTheAppOrTheSystemChanges() {
        qualified(liar, cpu)
        for ((app, system, replays) in listOf(
            Triple("1.0", "phone", false), Triple("1.1", "phone", true), Triple("1.0", "updated phone", true),
        )) {
            forget()
            assertEquals(cpu, qualified(liar, cpu, app = app, system = system).options)
            assertEquals("$app $system", replays, TestEngineProvider.opened.isNotEmpty())
        }
    }

    @Test
    fun whatEndedTheProcessIsNotTriedAgain() {
        qualified(liar, cpu)
        val ofLiar = memory.verdicts.keys.single { TestEngineProvider.LIAR in it }
        memory.verdicts[ofLiar] = "started"
        forget()
        val result = qualified(liar, cpu)
        assertEquals("the app ended while it was tried", result.trials.first().failure)
        assertTrue(TestEngineProvider.opened.isEmpty())
    }

    @Test
    fun atTheTimeOfTheTestItIsNotedThatItStarted() {
        val seen = ArrayList<String?>()
        val watched = object : Qualification.Memory {
            override fun get(key: String): String? = null

            override fun put(key: String, verdict: String) {
                seen += "$verdict after ${TestEngineProvider.opened.size} models"
            }
        }
        Qualification(watched, "1.0", "phone").first(bundle, listOf(liar, cpu)).pipeline.close()
        assertEquals("started after 0 models", seen[0])
        assertTrue("$seen", "is off by" in seen[1]!! && TestEngineProvider.opened.isNotEmpty())
        // Of the CPU nothing is noted before: who ends the app meanwhile may start it again.
        assertTrue("$seen", seen.size == 3 && seen[2]!!.startsWith("passed after "))
    }
}
